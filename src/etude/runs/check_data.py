"""Check data before any training: can every row be used, and will a score on it mean what it says?

Nothing here is fitted that a run would keep. The test part is read as training itself reads it: for rows
and labels that cannot be used, for rows that are in another part too, and for its texts' likeness to the
training ones. Its labels serve no other purpose, so that the lock on what tunes holds; whoever wants to
know whether the validation part ranks models as test rows do names a labelled file for that.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from etude.config.load import load_config, parse_config
from etude.config.run import BackboneConfig, Config
from etude.core.observe import Reporter
from etude.data.inspect import Findings, guess_columns, inspect_table, render_config
from etude.data.profile import Tokens, count_tokens, estimate_tokens
from etude.data.salvage import read_what_can_be_read, retry, sift
from etude.data.text import check_texts
from etude.data.verdicts import Checkup, Remark, Section
from etude.errors import ConfigError, DataError, EtudeError
from etude.report.check_data import render_checkup
from etude.runs.data_comparisons import agreement_section, drift_section, group_section, noise_section
from etude.runs.data_duplicates import duplicate_section, leak_section
from etude.runs.data_parts import Parts, read_another, read_parts, without_empty_labels
from etude.runs.data_sections import label_section, length_section, schema_section, together_section
from etude.runs.folder import whole_file


def check_data(
    source: str | Path | Config,
    *,
    overrides: Sequence[str] = (),
    deep: bool = False,
    correlate_with: str | None = None,
    reporter: Reporter | None = None,
) -> Checkup:
    """Check the data of a config, or a file as ``etude init`` would read it.

    Args:
        source: a TOML file, a config, or a data file.
        overrides: ``"data.text=body"`` and the like.
        deep: also fit a cheap model five times, to see how much of a score is chance.
        correlate_with: a labelled file; models of different quality are scored on it and on the validation
            part.
        reporter: who tells of progress; nobody by default.

    Raises:
        EtudeError: the config or the training file cannot be read at all, or ``correlate_with`` cannot be
            used. Whatever is wrong with rows and parts is in the checkup.
    """
    reporter = reporter or Reporter()
    config, guesses = _config_of(source, overrides)
    if not isinstance(config.backbone, BackboneConfig):
        raise ConfigError(
            f"check-data looks at texts and backbone.kind is {config.backbone.kind!r}; 'etude validate' "
            "checks the rows of every kind of data"
        )
    parts = read_parts(config)
    sections = [schema_section(parts, guesses), label_section(parts), together_section(parts)]
    if parts.found["train"].rows:
        tokens, why_guessed = _count(config, parts, reporter, guess=bool(guesses))
        sections += [
            length_section(parts, tokens, config.backbone.max_length, why_guessed),
            duplicate_section(parts, reporter),
            leak_section(parts, reporter),
            group_section(parts, config.data),
            drift_section(parts, config.data, seed=config.seed, reporter=reporter),
        ]
        sections += _deep_sections(config, parts, deep, correlate_with, reporter)
    name = config.data.train if isinstance(source, Config) else str(source)
    return Checkup(
        source=name,
        task=None if parts.task is None else parts.task.kind,
        labels=parts.labels,
        rows={part: rows.rows for part, rows in parts.found.items()},
        sections=[section for section in sections if section is not None],
    )


def write_page(checkup: Checkup, path: str | Path) -> None:
    """Write a checkup as a page that opens offline.

    Raises:
        ConfigError: the file's name does not end in ``.html``.
        RunError: the disk refuses.
    """
    refuse_no_page(str(path))
    with whole_file(Path(path), "choose another place with --output") as file:
        file.write_text(render_checkup(checkup), encoding="utf-8")


def refuse_no_page(path: str) -> None:
    """Raise :class:`ConfigError` for a name that is no page's, before a data file is overwritten."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--output is {path!r} and the page is HTML; name a file that ends in .html")


def _config_of(source: str | Path | Config, overrides: Sequence[str]) -> tuple[Config, list[str]]:
    """The config to check, and why its columns were chosen where they were guessed."""
    if isinstance(source, Config):
        return source, []
    if Path(source).suffix.lower() == ".toml":
        return load_config(source, overrides), []
    findings = _inspect(str(source))
    mapping = tomllib.loads(render_config(findings))
    keys = ("text", "labels", "label_separator")
    why = [findings.sentences[key] for key in keys if key in findings.sentences]
    return parse_config(mapping, overrides), why


def _inspect(path: str) -> Findings:
    """Guess what a file holds from those of its rows that can be used."""
    table, _ = read_what_can_be_read(path, "train")
    text, labels, separator = guess_columns(table)
    table, _ = sift(table, "train", [text], lambda rows: check_texts(rows, text))
    table, _ = without_empty_labels(table, "train", labels, separator)
    column = labels if isinstance(labels, str) else None
    findings, _, faults = retry(table, "train", inspect_table, column=column)
    if findings is None:
        raise DataError(faults[-1].sentence)
    return findings


def _count(config: Config, parts: Parts, reporter: Reporter, *, guess: bool) -> tuple[dict[str, Tokens], str]:
    """The tokens of each part, and why they are a guess where they are one."""
    why = "a data file names no tokenizer, and a config does" if guess else ""
    tokenizer = None
    if not guess:
        from etude.backbones.text import load_tokenizer  # a data file is checked without transformers

        try:
            tokenizer = load_tokenizer(cast("BackboneConfig", config.backbone))
        except EtudeError as error:
            why = str(error)
    found = {}
    for name, part in parts.found.items():
        if tokenizer is not None:
            found[name] = count_tokens(part.texts, part.pairs, tokenizer, reporter)
        elif part.pairs is None:
            found[name] = estimate_tokens(part.texts)
        else:
            found[name] = estimate_tokens([a + b for a, b in zip(part.texts, part.pairs, strict=True)])
    return found, why


def _deep_sections(
    config: Config, parts: Parts, deep: bool, correlate_with: str | None, reporter: Reporter
) -> list[Section | None]:
    """What costs fits of cheap models."""
    if parts.task is None:
        return []
    metric = parts.task.main_metric
    sections: list[Section | None] = []
    if deep:
        sections.append(noise_section(parts.task, parts, metric, seed=config.seed, reporter=reporter))
    if correlate_with is not None:
        if "validation" not in parts.found:
            raise ConfigError(
                f"--correlate-with {correlate_with} needs a validation part to compare with; set "
                "data.validation"
            )
        other = read_another(config, parts, correlate_with)
        section = agreement_section(
            parts.task, parts, other, correlate_with, metric, seed=config.seed, reporter=reporter
        )
        sections.append(_with_warning(section, config, correlate_with))
    return sections


def _with_warning(section: Section, config: Config, correlate_with: str) -> Section:
    """Say so where the file is the test part, whose labels should choose nothing."""
    test = config.data.test
    if not isinstance(test, str) or not Path(test).exists() or not Path(test).samefile(correlate_with):
        return section
    warning = Remark(
        "look",
        f"{correlate_with} is the test part: its labels were looked at because you named it.",
        "A validation part that is redrawn until it agrees has been fitted to the test part.",
    )
    return Section(section.name, section.question, [*section.remarks, warning], section.evidence)
