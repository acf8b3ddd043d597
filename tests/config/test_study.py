"""``[study]``: what it takes, and what is wrong with what it does not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etude.config.load import load_config
from etude.config.study import nested, read_study
from etude.errors import ConfigError

DATA = {"data": {"train": "a.csv"}}


def study(**section: Any) -> dict[str, Any]:
    return {**DATA, "study": section}


def test_a_file_is_a_run_and_a_study_of_it(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('[data]\ntrain = "a.csv"\n[optimizer]\nlr = 1e-3\n')
    file = tmp_path / "study.toml"
    file.write_text('extends = "base.toml"\n[study]\ntechniques = ["ema"]\nseeds = [3, 1]\n')
    found, base = read_study(file, ["study.budget=2h", "train.epochs=2"])
    assert (found.seeds_from(0), found.techniques, found.seconds) == ([3, 1], ["ema"], 7200.0)
    assert base == {"data": {"train": "a.csv"}, "optimizer": {"lr": 1e-3}, "train": {"epochs": 2}}
    assert load_config(file).optimizer == {"lr": 1e-3}


def test_a_number_of_seeds_begins_with_that_of_the_base() -> None:
    assert read_study(study(seeds=3, leave_one_out=True))[0].seeds_from(7) == [7, 8, 9]


def test_dotted_keys_are_tables() -> None:
    changes = {"optimizer.lr": 1e-4, "optimizer": {"name": "adamw"}, "techniques": {"ema": {}}}
    assert nested(changes) == {"optimizer": {"lr": 1e-4, "name": "adamw"}, "techniques": {"ema": {}}}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (DATA, "there is no [study] section, which says what to compare; add one with techniques"),
        (study(), "there is nothing to compare with the base: add [study.variants.NAME] tables"),
        (study(techniques=["ema"], seeds=0), "study.seeds"),
        (study(techniques=["ema"], seeds=[]), "seeds is an empty list; name at least one seed"),
        (study(techniques=["ema"], seeds=[1, 1]), "seeds names 1 twice"),
        (study(techniques=["ema", "ema"]), "techniques names 'ema' twice"),
        (study(techniques=["ema"], budget="two hours"), "'two hours' is no duration: write seconds as '90s'"),
        (study(techniques=["ema"], seed=3), "unknown key 'seed' in [study]; did you mean 'seeds'?"),
        (study(variants={"base": {}}), "a variant is called 'base', which is the run without changes"),
        (
            study(variants={"x": {"seed": 3}}),
            "the variant 'x' changes 'seed' and may not: the study gives each variant the same seeds",
        ),
        (
            study(variants={"x": {"run.dir": "a"}}),
            "the variant 'x' changes 'run' and may not: the study keeps its runs in a folder of its own",
        ),
        (study(variants={"x": {"optimizer..lr": 1}}), "has the key 'optimizer..lr' with an empty part"),
        (
            study(variants={"x": {"optimizer": 1, "optimizer.lr": 1}}),
            "gives 'optimizer' a value and changes inside it",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_study(table)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
