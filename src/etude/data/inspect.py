"""A look at a data file: which column is the text, which the label, and what task that makes.

Every guess comes with a sentence that says why, so that ``etude init`` can write them beside the
choices. Nothing is written here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etude.core.task import Kind
from etude.data.labels import infer_kind, likeliest, read_labels, sort_labels
from etude.data.sources import read_table
from etude.data.table import Table
from etude.data.text import check_texts
from etude.errors import DataError

LABEL_NAMES = (
    "label", "labels", "class", "classes", "category", "categories", "target", "intent", "intents",
    "tag", "tags", "topic", "topics", "sentiment", "emotion", "emotions",
)  # fmt: skip
"""Names of columns that hold labels, the likeliest first."""
_SEPARATORS = ("|", ";", ",")
_LENGTHS = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Lengths:
    """Words of a text (median, 99th percentile, most), and a guess at the 99th percentile of tokens."""

    median: int
    high: int
    most: int
    tokens: int


@dataclass(frozen=True)
class Findings:
    """What a file seems to hold.

    Attributes:
        path: the file.
        rows: its rows.
        columns: its columns.
        text: the column of the text.
        labels: the column of the labels, or several columns of zeros and ones.
        separator: what separates the labels of one cell, if anything does.
        kind: the task.
        counts: rows of each label, in the task's order.
        lengths: words of the texts.
        max_length: tokens that hold nearly every text.
        sentences: why each choice was made, one sentence or two, by the config key that it decides.
        validation, test: files beside this one that are named as its other parts.
    """

    path: str
    rows: int
    columns: tuple[str, ...]
    text: str
    labels: str | list[str]
    separator: str | None
    kind: Kind
    counts: Mapping[str, int]
    lengths: Lengths
    max_length: int
    sentences: Mapping[str, str]
    validation: str | None = None
    test: str | None = None


def inspect_file(path: str) -> Findings:
    """Look at a file and guess what each column is for.

    Raises:
        DataError: the file cannot be read, or no column looks like texts or like labels.
    """
    return inspect_table(read_table(path, role="train"))


def guess_columns(table: Table) -> tuple[str, str | list[str], str | None]:
    """Return the column of the text, that or those of the labels, and what separates labels in a cell.

    Raises:
        DataError: no column looks like texts or like labels.
    """
    text, _ = _find_text(table)
    columns, _ = _find_labels(table, text)
    return text, columns, _find_separator(table.column(columns)) if isinstance(columns, str) else None


def inspect_table(table: Table) -> Findings:
    """Look at rows that were read already, as :func:`inspect_file`."""
    text, why_text = _find_text(table)
    columns, why_labels = _find_labels(table, text)
    separator = _find_separator(table.column(columns)) if isinstance(columns, str) else None
    labels = read_labels(table, columns, separator)
    kind = infer_kind(labels)
    names = likeliest(labels)
    counted = Counter(name for row in names for name in row)
    order = labels.order or sort_labels({name for row in labels.names for name in row})
    counts = {name: counted[name] for name in order}
    lengths = _measure(check_texts(table, text))
    return Findings(
        path=table.path,
        rows=table.rows,
        columns=table.columns,
        text=text,
        labels=columns,
        separator=separator,
        kind=kind,
        counts=counts,
        lengths=lengths,
        max_length=_choose_length(lengths),
        sentences={
            "task": _explain_task(kind, counts, names),
            "text": why_text,
            "labels": why_labels,
            **(
                {"label_separator": f"Many cells hold several labels with {separator!r} between them."}
                if separator
                else {}
            ),
            "max_length": _explain_length(lengths),
        },
        validation=find_sibling(table.path, ("validation", "valid", "val", "dev")),
        test=find_sibling(table.path, ("test",)),
    )


def find_sibling(path: str, names: tuple[str, ...]) -> str | None:
    """The file beside ``train.csv`` that is called ``test.csv`` or the like."""
    file = Path(path)
    if "train" not in file.name:
        return None
    beside = [file.with_name(file.name.replace("train", name)) for name in names]
    return next((str(other) for other in beside if other.is_file()), None)


def _find_text(table: Table) -> tuple[str, str]:
    """The column of strings that are the longest on average."""
    averages = {name: _mean_length(cells) for name, cells in table.values.items() if _are_texts(cells)}
    if not averages:
        raise DataError(
            f"{table.path} has no column of texts among {', '.join(table.columns)}; texts are strings"
        )
    text = max(averages, key=lambda name: averages[name] * (0.01 + _share_of_prose(table.column(name))))
    others = [
        name
        for name in averages
        if averages[name] > 0.3 * averages[text] and name != text and _mostly_distinct(table.column(name))
    ]
    hint = f" Column {others[0]!r} is long as well and may be a text_pair." if others else ""
    return text, f"The strings in {text!r} are the longest, {averages[text]:.0f} characters on average.{hint}"


def _are_texts(cells: list[Any]) -> bool:
    """Whether a column holds strings that are not all numbers; an empty cell is a fault for later."""
    strings = [cell for cell in cells if cell is not None]
    return bool(strings) and all(isinstance(cell, str) for cell in strings) and not _all_numbers(strings)


def _mean_length(cells: list[Any]) -> float:
    return sum(len(cell or "") for cell in cells) / len(cells)


def _share_of_prose(cells: list[Any]) -> float:
    """The share of cells that an id or an address cannot be: with a space, or beyond ASCII."""
    return sum(not (cell or "").isascii() or " " in (cell or "") for cell in cells) / len(cells)


def _mostly_distinct(cells: list[Any]) -> bool:
    return len(set(cells)) > len(cells) // 2


def _all_numbers(cells: list[str]) -> bool:
    try:
        for cell in cells:
            float(cell)
    except ValueError:
        return False
    return True


def _find_labels(table: Table, text: str) -> tuple[str | list[str], str]:
    """The labels column by its name, its lists, its zeros and ones or its few values."""
    others = {name: cells for name, cells in table.values.items() if name != text}
    for name in sorted(others, key=_rank_name):
        present = [cell for cell in others[name] if cell is not None]  # a null is an error to show later
        if _rank_name(name) < len(LABEL_NAMES) and _looks_like_labels(present):
            return name, f"The labels are in {name!r}, as the name says."
    for name, cells in others.items():
        for kind, what in ((list, "lists"), (dict, "shares by label")):
            if all(isinstance(cell, kind) for cell in cells):
                return name, f"The labels are in {name!r}, which holds {what}."
    flags = [name for name, cells in others.items() if _zeros_and_ones(cells)]
    if len(flags) > 1:
        return flags, f"The labels are {len(flags)} columns, which hold zeros and ones."
    few = {
        name: len(set(cells))
        for name, cells in others.items()
        if _looks_like_labels(cells) and 1 < len(set(cells)) <= max(2, table.rows // 4)
    }
    if not few:
        raise DataError(
            f"{table.path} has no column that looks like labels beside {text!r}; name the column of the "
            "labels in the config, as data.labels"
        )
    name = min(few, key=lambda n: few[n])
    others_few = [other for other in few if other != name]
    hint = f" It could be {', '.join(map(repr, others_few))} as well." if others_few else ""
    return name, (
        f"The labels are in {name!r}, which holds the fewest distinct values, {few[name]} in {table.rows} "
        f"rows.{hint}"
    )


def _rank_name(name: str) -> int:
    lowered = name.strip().lower()
    return LABEL_NAMES.index(lowered) if lowered in LABEL_NAMES else len(LABEL_NAMES)


def _looks_like_labels(cells: list[Any]) -> bool:
    if all(isinstance(cell, list) for cell in cells) or all(isinstance(cell, dict) for cell in cells):
        return True
    return all(isinstance(cell, str | int) for cell in cells)


def _zeros_and_ones(cells: list[Any]) -> bool:
    values = {str(cell).strip().lower() for cell in cells}
    return values <= {"0", "1"} or values <= {"true", "false"}


def _find_separator(cells: list[Any]) -> str | None:
    """The separator that turns many distinct cells into few distinct labels."""
    if not all(isinstance(cell, str) for cell in cells) or all(c.lstrip().startswith("[") for c in cells):
        return None
    for separator in _SEPARATORS:
        n_split = sum(separator in cell for cell in cells)
        pieces = {piece.strip() for cell in cells for piece in cell.split(separator)}
        if n_split >= 0.02 * len(cells) and len(pieces) < len(set(cells)):
            return separator
    return None


def _measure(texts: list[str]) -> Lengths:
    words = np.array([len(text.split()) for text in texts])
    return Lengths(
        median=int(np.median(words)),
        high=int(np.percentile(words, 99)),
        most=int(words.max()),
        tokens=int(np.percentile([_guess_tokens(text) for text in texts], 99)) + 1,
    )


def _guess_tokens(text: str) -> float:
    """A generous guess, as padding follows the batch: 2.5 ASCII characters, or one other, a token."""
    n_ascii = len(text.encode("ascii", "ignore"))
    return n_ascii / 2.5 + (len(text) - n_ascii) + 2


def _choose_length(lengths: Lengths) -> int:
    """The smallest usual length that holds the 99th percentile."""
    return next((length for length in _LENGTHS if length >= lengths.tokens), _LENGTHS[-1])


def _explain_length(lengths: Lengths) -> str:
    cut = (
        "; longer texts are cut, as few encoders take more than 512" if lengths.tokens > _LENGTHS[-1] else ""
    )
    return (
        f"Texts have {lengths.median} words at the median, {lengths.high} at the 99th percentile and "
        f"{lengths.most} at most; 99 of 100 should have no more than about {lengths.tokens} tokens{cut}."
    )


def _explain_task(kind: Kind, counts: Mapping[str, int], names: list[list[str]]) -> str:
    rarest, commonest = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    spread = f"from {rarest!r} in {counts[rarest]} rows to {commonest!r} in {counts[commonest]}"
    if counts[rarest] == counts[commonest]:
        spread = f"each in {counts[rarest]} rows"
    if kind == "multilabel":
        mean = sum(map(len, names)) / len(names)
        n_none = sum(not row for row in names)
        none = f" and none for {n_none} rows" if n_none else ""
        return f"There are {len(counts)} labels, {mean:.2f} for each row{none}, {spread}."
    if kind == "binary":
        return f"There are two labels, {spread}; {list(counts)[1]!r} is the positive one."
    return f"There are {len(counts)} labels, one for each row, {spread}."


def render_config(
    findings: Findings,
    *,
    backbone: str = "sentence-transformers/all-MiniLM-L6-v2",
    test: str | None = None,
    run_dir: str = "runs/first",
) -> str:
    """Return a config for the file as commented TOML; it loads as it stands."""
    why = findings.sentences
    separator = ""
    if findings.separator:
        separator = f"# {why['label_separator']}\nlabel_separator = {_quote(findings.separator)}\n"
    columns = _comment(", ".join(findings.columns))
    test = test or findings.test
    held_out = f"test = {_quote(test)}" if test else '# test = "test.csv"'
    return f"""\
# Written by looking at {_comment(findings.path)}: {findings.rows} rows, columns {columns}.
# Every key that is not here has a default; `etude explain` shows the whole plan before training.

# {_comment(why["task"])}
task = {_quote(findings.kind)}
seed = 0

[data]
train = {_quote(findings.path)}
# A test file is read by the final evaluation only; without one the run ends with validation scores.
{held_out}
{_render_validation(findings)}
# {_comment(why["text"])}
text = {_quote(findings.text)}
# {_comment(why["labels"])}
labels = {_quote(findings.labels)}
{separator}
[backbone]
# A folder, a hub id, or "pkg:PACKAGE" for weights that an installed package carries.
path = {_quote(backbone)}
# {_comment(why["max_length"])}
max_length = {findings.max_length}

[train]
epochs = 5
batch_size = 32

[run]
dir = {_quote(run_dir)}
"""


def _render_validation(findings: Findings) -> str:
    if findings.validation:
        validation = _quote(findings.validation)
        return f"# The validation file stands beside the training file.\nvalidation = {validation}"
    fraction = 0.1 if findings.rows >= 1000 else 0.2
    return (
        f"# {fraction:.0%} of the rows are held out to score each epoch, every label in its proportion.\n"
        f"validation = {fraction}"
    )


def _quote(value: str | list[str]) -> str:
    """A JSON string is a TOML string, and a JSON list of them a TOML array."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """A comment has one line and no control characters."""
    return "".join(character if character.isprintable() else " " for character in text)
