"""Config files: extending, overriding, round trips, and errors that say where and what instead."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest

from etude.config.explain import default_in_words, search_range, takes, unit, validated
from etude.config.fields import Probability, SearchRange, Strict, Time, setting
from etude.config.load import dump_config, load_config, merge, parse_config, to_toml
from etude.config.run import Config
from etude.errors import ConfigError

DATA: dict[str, Any] = {"data": {"train": "a.csv"}}


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def message(table: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_config(table, overrides)
    return str(raised.value)


def test_reads_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, "run.toml", 'seed = 3\n[data]\ntrain = "a.csv"\n[train]\nsave_every = "50st"\n')
    config = load_config(file)
    assert config.seed == 3
    assert config.train.save_every == Time(50, "st")
    assert config.data.train == "a.csv", "paths of data stay as they are"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = write(tmp_path, "run.toml", '\ufeff[data]\ntrain = "a.csv"\n')
    assert load_config(file).data.train == "a.csv"


def test_extends_over_several_levels_and_folders(tmp_path: Path) -> None:
    write(tmp_path, "root.toml", '[data]\ntrain = "a.csv"\n[train]\nepochs = 1\nbatch_size = 8\n')
    write(tmp_path, "shared/base.toml", 'extends = "../root.toml"\n[train]\nepochs = 2\n')
    file = write(tmp_path, "run.toml", 'extends = "shared/base.toml"\nseed = 7\n')
    config = load_config(file)
    assert (config.seed, config.train.epochs, config.train.batch_size) == (7, 2, 8)


def test_extends_in_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", 'extends = "b.toml"')
    write(tmp_path, "b.toml", 'extends = "a.toml"')
    with pytest.raises(ConfigError, match=r"extend each other in a circle: .*a.toml -> .*b.toml -> .*a.toml"):
        load_config(tmp_path / "a.toml")


def test_extends_must_name_one_existing_file(tmp_path: Path) -> None:
    file = write(tmp_path, "run.toml", 'extends = ["a.toml"]')
    with pytest.raises(ConfigError, match=r"extends is \['a.toml'\] and must be one file"):
        load_config(file)
    file = write(tmp_path, "run.toml", 'extends = "gone.toml"')
    with pytest.raises(
        ConfigError, match=r"there is no config file '.*gone.toml' \(that .*run.toml extends\)"
    ):
        load_config(file)


@pytest.mark.parametrize("section", ["optimizer", "schedule", "loss"])
def test_a_changed_name_replaces_the_whole_table(section: str) -> None:
    base = {section: {"name": "old", "lr": 1.0}}
    assert merge(base, {section: {"name": "new"}}) == {section: {"name": "new"}}
    assert merge(base, {section: {"name": "old", "beta": 2}}) == {
        section: {"name": "old", "lr": 1.0, "beta": 2}
    }
    assert merge(base, {section: {"beta": 2}}) == {section: {"name": "old", "lr": 1.0, "beta": 2}}
    assert merge({section: {"lr": 1.0}}, {section: {"name": "new"}}) == {section: {"lr": 1.0, "name": "new"}}


def test_other_tables_are_merged_and_nothing_is_changed_in_place() -> None:
    base = {"techniques": {"ema": {"decay": 0.9}, "clip": {"max_norm": 1.0}}}
    top = {"techniques": {"ema": {"enabled": False}}}
    merged = merge(base, top)
    assert merged["techniques"] == {"ema": {"decay": 0.9, "enabled": False}, "clip": {"max_norm": 1.0}}
    assert base["techniques"]["ema"] == {"decay": 0.9}


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.x=3e-5", 3e-5),
        ("optimizer.x = 7 ", 7),
        ("optimizer.x=true", True),
        ("optimizer.x=[0.9, 0.98]", [0.9, 0.98]),
        ("optimizer.x='3'", "3"),
        ("optimizer.x=plain words", "plain words"),
        ("optimizer.x=a=b", "a=b"),
        ("optimizer.x=", ""),
        ("optimizer.x=1\ny=2", "1\ny=2"),
    ],
)
def test_override_values_are_toml_or_text(override: str, value: object) -> None:
    found = parse_config(DATA, [override]).optimizer["x"]
    assert found == value
    assert type(found) is type(value)


def test_overrides_reach_every_section_and_the_last_wins() -> None:
    config = parse_config(
        DATA,
        ["train.epochs=2", "train.epochs=3", "techniques.ema.decay=0.9", "data.validation=false", "seed=5"],
    )
    assert (config.train.epochs, config.seed, config.data.validation) == (3, 5, False)
    assert config.techniques == {"ema": {"decay": 0.9}}


def test_the_order_of_overrides_does_not_matter_to_a_new_name() -> None:
    table = {**DATA, "optimizer": {"name": "adamw", "beta2": 0.98}}
    for overrides in (["optimizer.name=sgd", "optimizer.lr=0.1"], ["optimizer.lr=0.1", "optimizer.name=sgd"]):
        assert parse_config(table, overrides).optimizer == {"name": "sgd", "lr": 0.1}


def test_overrides_that_cannot_be_read_or_placed() -> None:
    expected = "--set 'train.epochs' is no KEY=VALUE; write it as --set optimizer.lr=3e-5"
    assert message(DATA, "train.epochs") == expected
    assert "is no KEY=VALUE" in message(DATA, "train..epochs=1")
    assert "goes inside 'train', which another --set has made a value" in message(
        DATA, "train=1", "train.epochs=2"
    )
    assert message(DATA, "optmizer.lr=3e-5") == "unknown key 'optmizer'; did you mean 'optimizer'?"
    assert message(DATA, "train.epoch=3") == "unknown key 'epoch' in [train]; did you mean 'epochs'?"


def test_unknown_keys_name_the_closest_one_or_the_place() -> None:
    assert message({**DATA, "trian": {}}) == "unknown key 'trian'; did you mean 'train'?"
    assert message({**DATA, "epochs": 3}) == "unknown key 'epochs'; it belongs in [train]"
    assert message({**DATA, "train": {"lr": 1}}) == "unknown key 'lr' in [train]; write it as optimizer.lr"
    assert message({**DATA, "run": {"zebra": 1}}) == (
        "unknown key 'zebra' in [run]; it takes dir, job, score_test, baselines, report, resamples"
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "the table [data] is missing"),
        ({"data": {}}, "data.train is missing: csv, tsv, jsonl, json or parquet file, or a hub data set id"),
        ({**DATA, "train": {"epochs": 0}}, "train.epochs is 0 and must be a whole number of at least 1"),
        ({**DATA, "train": {"epochs": "many"}}, "train.epochs is 'many' and must be a whole number"),
        ({**DATA, "train": {"epochs": 1.5}}, "train.epochs is 1.5 and must be a whole number"),
        ({**DATA, "train": {"epochs": True}}, "train.epochs is true and must be a whole number"),
        ({**DATA, "backbone": {"dropout": 1.2}}, "backbone.dropout is 1.2 and must be a number from 0 to 1"),
        (
            {**DATA, "backbone": {"dropout": float("nan")}},
            "backbone.dropout is nan and must be a number from",
        ),
        ({**DATA, "backbone": {"head": "cnn"}}, "backbone.head is 'cnn' and must be 'linear' or 'mlp'"),
        (
            {**DATA, "train": {"save_every": "3 days"}},
            "train.save_every: '3 days' is no time: write epochs as",
        ),
        ({**DATA, "train": 3}, "train is 3 and must be a table"),
        ({**DATA, "optimizer": "sgd"}, "optimizer is 'sgd' and must be a table"),
        ({**DATA, "techniques": {"ema": True}}, "techniques.ema is true and must be a table"),
        ({"data": {"train": 3}}, "data.train is 3 and must be text"),
        (
            {"data": {"train": "a", "labels": ["x", 1]}},
            "data.labels is ['x', 1] and must be text or a list of texts",
        ),
        (
            {"data": {"train": "a", "validation": True}},
            "data.validation is true and must be a whole number above 0",
        ),
        ({"data": {"train": "a", "validation": 1.5}}, "a number above 0 and below 1, text or false"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_is_expected(
    table: dict[str, Any], words: str
) -> None:
    assert words in message(table)


def test_of_several_errors_the_first_is_told_and_the_others_counted() -> None:
    assert message({**DATA, "train": {"epochs": 0, "batch_size": 0}}).endswith("(and 1 more error)")
    several = message({"dta": {}, "train": {"epochs": 0, "batch_size": 0}})
    assert several == "unknown key 'dta'; did you mean 'data'? (and 3 more errors)"


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "run.toml", '[data]\ntrain = "a.csv"\n[train]\nlerning_rate = 1\nepochs = 0')
    with pytest.raises(
        ConfigError, match=r"run.toml: unknown key 'lerning_rate' in \[train\].* 1 more error"
    ):
        load_config(file)


def test_a_missing_file_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no config file '.*gone.toml'; 'etude init DATA_FILE'"):
        load_config(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_toml_faults_name_the_line(tmp_path: Path) -> None:
    file = write(tmp_path, "run.toml", "seed = 1\nepochs 3\n")
    with pytest.raises(ConfigError, match=r"run.toml, line 2, column 8: this is not TOML: expected '='"):
        load_config(file)


def test_other_encodings_are_refused_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes('seed = 1\n[data]\ntrain = "müll.csv"\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"run.toml, line 3: this is not UTF-8; save the file as UTF-8"):
        load_config(file)


def test_a_resolved_config_survives_the_round_trip(tmp_path: Path) -> None:
    config = parse_config(
        {
            "data": {"train": 'C:\\a "quoted" name\t.csv', "labels": ["ä", "b\x7f"], "validation": False},
            "train": {"evaluate_every": "0.25dur", "max_steps": 10},
            "optimizer": {
                "name": "adamw",
                "lr": 3e-5,
                "betas": [0.9, 0.999],
                "nested": {"deep er": {"x": 1}},
            },
            "techniques": {"sam": {}, "ema": {"enabled": False}},
        }
    )
    file = write(tmp_path, "dump.toml", dump_config(config))
    assert load_config(file) == config
    assert "max_steps = 10" in file.read_text(encoding="utf-8")


def test_the_smallest_config_survives_the_round_trip() -> None:
    config = parse_config(DATA)
    assert Config.model_validate(tomllib.loads(dump_config(config))) == config


def test_toml_of_tables_inside_lists() -> None:
    table = {"a": [{"b": 1, "c d": [True, float("inf")]}, {}], "e": {"f": {}}}
    assert tomllib.loads(to_toml(table)) == table


class _Settings(Strict):
    """A config as a technique has one."""

    name: Literal["made_up"] = "made_up"
    decay: Probability = setting(0.9, help="how slow")
    betas: tuple[Probability, Probability] = setting((0.9, 0.98), help="memories")
    share: float = setting(0.5, help="how much", gt=0, le=1, search=SearchRange(0.1, 1.0, "log"), unit="rows")
    until: Time | None = setting(None, help="when")


def test_the_tables_of_techniques_get_the_same_sentences() -> None:
    assert validated(_Settings, {"decay": 1}, "techniques.made_up").decay == 1.0
    with pytest.raises(
        ConfigError, match=r"^techniques.made_up.decay is 2 and must be a number from 0 to 1$"
    ):
        validated(_Settings, {"decay": 2}, "techniques.made_up")
    with pytest.raises(
        ConfigError, match=r"^unknown key 'dekay' in \[techniques.made_up\]; did you mean 'decay'"
    ):
        validated(_Settings, {"dekay": 2}, "techniques.made_up")
    with pytest.raises(
        ConfigError, match=r"made_up.betas has 1.5 as item 2 and must be a list of 2, each a num"
    ):
        validated(_Settings, {"betas": [0.9, 1.5]}, "techniques.made_up")
    with pytest.raises(ConfigError, match=r"^share is 0 and must be a number above 0 and at most 1$"):
        validated(_Settings, {"share": 0})


def test_settings_can_be_read_aloud() -> None:
    fields = _Settings.model_fields
    words = {
        key: (takes(field.annotation, field.metadata), default_in_words(field))
        for key, field in fields.items()
    }
    assert words == {
        "name": ("'made_up'", "'made_up'"),
        "decay": ("a number from 0 to 1", "0.9"),
        "betas": ("a list of 2, each a number from 0 to 1", "[0.9, 0.98]"),
        "share": ("a number above 0 and at most 1", "0.5"),
        "until": ("a time as '3ep', '500st' or '0.3dur'", "absent"),
    }
    assert (search_range(fields["share"]), unit(fields["share"])) == ("0.1 to 1, log", "rows")
    assert (search_range(fields["decay"]), unit(fields["decay"])) == ("", "")


def test_another_kind_of_backbone_has_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        '[data]\ntrain = "a.csv"\n[backbone]\nkind = "table"\nmodel = "mlp"\n'
    )
    other = tmp_path / "other.toml"
    other.write_text('extends = "base.toml"\n[backbone]\nkind = "linear"\n')
    assert load_config(other).backbone.kind == "linear"
    other.write_text('extends = "base.toml"\n[backbone]\nkind = "table"\n')
    assert load_config(other).backbone.model == "mlp"  # type: ignore[union-attr]
