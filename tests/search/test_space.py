"""The space of a study: where it comes from, what is refused, and the arithmetic of scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etude.config.run import Config
from etude.config.tune import TuneConfig, read_tune
from etude.core.plan import Plan
from etude.errors import ConfigError
from etude.runs.build import build
from etude.search.dimension import Dimension, distance
from etude.search.space import make_space, overrides, with_params
from runs.tiny_project import CONFIG, write_project

PLAIN = CONFIG.replace("[techniques.hidden_mixup]\n", "")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Plan]:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    (folder / "plain.toml").write_text(PLAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config, _ = read_tune("plain.toml")
        return config, build(config).plan


def space(built: tuple[Config, Plan], **tune: Any) -> dict[str, Dimension]:
    config, plan = built
    return {d.path: d for d in make_space(config, read_tune(_tables(tune))[1], plan)}


def _tables(tune: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"train": "a.csv"}, "tune": tune}


def test_the_default_space_is_what_the_chosen_techniques_declare(built: tuple[Config, Plan]) -> None:
    found = space(built)
    assert {"optimizer.lr", "optimizer.weight_decay", "optimizer.eps", "techniques.ema.decay"} <= set(found)
    assert "techniques.hidden_mixup.alpha" not in found
    lr, decay = found["optimizer.lr"], found["optimizer.weight_decay"]
    assert (lr.log, decay.log, found["optimizer.eps"].log) == (True, True, True)
    assert found["techniques.ema.decay"].log is False
    assert lr.default == 1e-4
    assert (lr.low, lr.high) == (1e-5, 1e-3)


def test_ranges_of_the_user_replace_declared_ones(built: tuple[Config, Plan]) -> None:
    found = space(
        built,
        space={
            "optimizer": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
            "optimizer.eps": False,
            "train.epochs": {"low": 2, "high": 8},
            "backbone.pooling": ["mean", "max"],
            "techniques.clip.enabled": [True, False],
        },
    )
    assert (found["optimizer.lr"].low, found["optimizer.lr"].high) == (1e-4, 1e-2)
    assert "optimizer.eps" not in found
    assert found["train.epochs"].whole
    assert found["train.epochs"].default == 6
    assert found["backbone.pooling"].choices == ("mean", "max")
    assert found["techniques.clip.enabled"].default is True


def test_roles_fix_settings_and_turn_scientific_ranges_into_values(built: tuple[Config, Plan]) -> None:
    roles = {"scientific": ["optimizer.weight_decay"], "nuisance": ["optimizer.lr"]}
    found = space(built, points=3, roles=roles)
    assert set(found) == {"optimizer.weight_decay", "optimizer.lr"}
    decay = found["optimizer.weight_decay"]
    assert decay.role == "scientific"
    assert decay.choices == pytest.approx((1e-3, 0.3**0.5 * 1e-3**0.5, 0.3))
    assert "optimizer.lr" not in space(built, roles={"fixed": ["optimizer.lr"]})


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        (
            {"space": {"optimizer.lr": {"low": 0.1, "high": 0.01}}},
            "'optimizer.lr' has low = 0.1 above high = 0.01; exchange them",
        ),
        (
            {"space": {"optimizer.lr": {"low": 0.1, "high": 0.1}}},
            "'optimizer.lr' is a space of one point, 0.1; widen the range, or set optimizer.lr in the config",
        ),
        (
            {"space": {"optimizer.lr": [0.1]}},
            "'optimizer.lr' is a space of one point, 0.1; give at least two",
        ),
        ({"space": {"optimizer.lr": []}}, "'optimizer.lr' is no choices; give at least two"),
        ({"space": {"optimizer.lr": [0.1, 0.1]}}, "'optimizer.lr' has the choice 0.1 twice; give each once"),
        (
            {"space": {"optimizer.lr": {"low": 0, "high": 0.1, "log": True}}},
            "'optimizer.lr' has log = true and low = 0; a logarithmic range begins above 0",
        ),
        ({"space": {"optimizer.lr": {"low": 0.1}}}, "'optimizer.lr' has no high; a range is"),
        (
            {"space": {"optimizer.lr": {"low": 0.1, "high": 1, "scale": "log"}}},
            "'optimizer.lr' has an unknown key 'scale'; a range takes low, high and log",
        ),
        (
            {"space": {"data.validation": [0.1, 0.2]}},
            "'data.validation' is no setting to tune: [data] says what is measured",
        ),
        ({"space": {"optimizer.lr": True}}, "'optimizer.lr' is True and must be a range"),
        ({"trials": 0}, "tune.trials is 0 and must be a whole number of at least 1"),
        ({"funnel": [0.1, 0.01]}, "[0.1, 0.01] must be rising shares of the training rows"),
        ({"funnel": [0.1], "mode": "grid"}, 'funnel is for mode = "search", and mode is "grid"'),
        ({"timeout": "2"}, "'2' is no duration"),
        ({"sampler": "tpee"}, "tune.sampler is 'tpee' and must be 'tpe' or 'gp'"),
        ({"trails": 3}, "unknown key 'trails' in [tune]; did you mean 'trials'?"),
    ],
)
def test_a_mistake_in_the_section_is_one_sentence(tune: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_tune(_tables(tune))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        (
            {"space": {"optimizer.lr": {"low": -1.0, "high": 1.0}}},
            "tune.space: 'optimizer.lr' holds -1.0, and optimizer.lr is -1.0 and must be a number above 0",
        ),
        (
            {"space": {"optimizer.lrr": {"low": 0.1, "high": 1.0}}},
            "tune.space: 'optimizer.lrr' is no setting of adamw; did you mean 'lr'?",
        ),
        (
            {"space": {"train.epoch": [1, 2]}},
            "tune.space: 'train.epoch' names no setting: train has no 'epoch'; did you mean 'epochs'?",
        ),
        (
            {"space": {"techniques.sam.rho": [0.1, 0.2]}},
            "tune.space: 'techniques.sam.rho' is a setting of sam, which the config does not choose",
        ),
        ({"space": {"techniques.smm.rho": [0.1, 0.2]}}, "there is no technique 'smm'; did you mean 'sam'?"),
        (
            {"space": {"train.epochs": {"low": 1.5, "high": 3}}},
            "tune.space: 'train.epochs' takes whole numbers, and its range is 1.5 to 3",
        ),
        (
            {"roles": {"scientific": ["optimizer.rl"]}},
            "tune.roles has 'optimizer.rl' as scientific, which is not tuned; did you mean 'optimizer.lr'?",
        ),
        (
            {"roles": {"fixed": ["optimizer.lr"]}, "space": {"optimizer.lr": [0.1, 0.2]}},
            "tune.roles has 'optimizer.lr' as fixed, and tune.space gives it values",
        ),
    ],
)
def test_a_space_that_does_not_fit_the_run_is_refused(
    built: tuple[Config, Plan], tune: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        space(built, **tune)
    assert words in str(refused.value)


def test_nothing_to_tune_is_said(built: tuple[Config, Plan]) -> None:
    everything = sorted(space(built))
    with pytest.raises(ConfigError, match="there is nothing to tune"):
        space(built, roles={"fixed": everything})


def test_a_technique_that_is_tried_may_be_tuned_as_well(built: tuple[Config, Plan]) -> None:
    found = space(
        built, space={"techniques.sam": {"enabled": [True, False], "rho": {"low": 0.01, "high": 0.1}}}
    )
    assert {"techniques.sam.enabled", "techniques.sam.rho"} <= set(found)
    config, _ = built
    changed = with_params(config, {"techniques.sam.enabled": True, "techniques.sam.rho": 0.05})
    assert changed.techniques["sam"] == {"enabled": True, "rho": 0.05}
    assert overrides({"a.b": 1, "a.c": 2}) == {"a": {"b": 1, "c": 2}}


def test_values_cover_the_range_and_stay_inside() -> None:
    dimensions = [
        Dimension("log", 1e-5, 1e-2, log=True),
        Dimension("uniform", 0.0, 0.5),
        Dimension("whole", 2, 9, whole=True),
        Dimension("whole_log", 4, 128, log=True, whole=True),
    ]
    for d in dimensions:
        values = [d.at(k / 1000) for k in range(1000)]
        assert values == sorted(values)
        assert all(d.holds(value) for value in values), d.path
        assert d.share(d.low) == 0
        assert d.share(d.high) == 1
        assert d.grid(5)[0] == d.low
        assert d.grid(5)[-1] == d.high
    assert {dimensions[2].at(k / 1000) for k in range(1000)} == set(range(2, 10))


def test_the_border_of_a_range_and_what_to_try() -> None:
    lr = Dimension("optimizer.lr", 1e-5, 1e-3, log=True, least=0.0)
    assert (lr.edge(9.7e-4), lr.edge(1.1e-5), lr.edge(1e-4)) == ("high", "low", None)
    assert lr.wider("high") == (1e-5, 1e-2)
    share = Dimension("p", 0.0, 0.5, least=0.0, most=1.0)
    assert (share.edge(0.0), share.edge(0.49)) == (None, "high")
    assert share.wider("high") == (0.0, 0.75)
    assert Dimension("k", 1, 8, whole=True, log=True, least=1).wider("high") == (1, 80)
    assert Dimension("c", choices=("a", "b")).edge("b") is None


def test_what_two_spaces_differ_in_is_said() -> None:
    before = [Dimension("a", 0.0, 1.0).to_json(), Dimension("b", 0.0, 1.0).to_json()]
    after = [Dimension("a", 0.0, 2.0).to_json(), Dimension("c", choices=("x", "y")).to_json()]
    said = distance(before, after)
    assert said[:2] == ["b is tuned no more", "c is new"]
    assert said[2] == "a was 0 to 1 (nuisance, default null) and is 0 to 2 (nuisance, default null)"
    assert distance(before, before) == []


def test_the_section_is_read_beside_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[data]\ntrain = "a.csv"\n[tune]\ntrials = 4\n')
    config, tune = read_tune(tmp_path / "a.toml", ["tune.seeds=2", "seed=3"])
    assert (config.seed, tune.trials, tune.seeds) == (3, 4, 2)
    assert tune == TuneConfig(trials=4, seeds=2)
