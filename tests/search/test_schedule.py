"""What each trial tries: an even spread, grids, samplers, and places that no two processes share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from scipy import stats

from etude.config.tune import TuneConfig
from etude.errors import ConfigError, RunError
from etude.search.confirm import confirm
from etude.search.dimension import Dimension
from etude.search.record import best_of, borders, importances, scientific, trials_of
from etude.search.schedule import Schedule, Scheduled, make_schedule, one_at_a_time, place_of, spread
from etude.search.storage import AGAIN, WHO, is_gone, mine, open_storage, work
from etude.search.tune import _suggest, make_pruner

LR = Dimension("lr", 1e-5, 1e-1, log=True, default=1e-3)
DROP = Dimension("drop", 0.0, 0.5, default=0.1)
KIND = Dimension("kind", choices=("a", "b", "c"), default="a", role="scientific")


def schedule_of(dimensions: Sequence[Dimension] = (LR, DROP), **tune: Any) -> Schedule:
    return make_schedule(TuneConfig(**tune), dimensions, seed=0)


def study_of(schedule: Schedule, storage: Any = None, pruner: str = "none") -> optuna.Study:
    sampler = Scheduled(schedule)
    study = optuna.create_study(
        sampler=sampler, storage=storage, pruner=make_pruner(pruner), study_name="s", load_if_exists=True
    )
    sampler.study = study
    return study


def run_all(study: optuna.Study, schedule: Schedule, objective: Any) -> None:
    def one(trial: optuna.Trial) -> float:
        values = {
            d.path: _suggest(trial, d, schedule)
            for d in schedule.dimensions
            if d.path in trial.relative_params
        }
        trial.set_user_attr("settings", values)
        return float(objective(values))

    work(study, one, schedule.n, may_begin=lambda: True, waiting=lambda _: None)


def bowl(values: dict[str, Any]) -> float:
    """Lowest at lr = 1e-2, drop = 0.25."""
    return (math.log10(values["lr"]) + 2) ** 2 + 16 * (values["drop"] - 0.25) ** 2


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def test_exploration_covers_every_part_of_every_setting() -> None:
    points = spread([LR, DROP, KIND], 48, seed=3)
    for dimension in (LR, DROP):
        shares = [dimension.share(point[dimension.path]) for point in points]
        assert np.bincount((np.array(shares) * 8).astype(int).clip(0, 7), minlength=8).min() >= 4
    assert sorted(point["kind"] for point in points).count("b") == 16
    assert points == spread([LR, DROP, KIND], 48, seed=3)
    assert points != spread([LR, DROP, KIND], 48, seed=4)


def test_default_first_then_exploration_then_exploitation() -> None:
    schedule = schedule_of(trials=10, explore=0.4)
    assert [schedule.phase(place) for place in range(10)] == ["default"] + ["explore"] * 4 + ["exploit"] * 5
    assert [schedule_of(trials=10, explore=7).phase(place) for place in (7, 8)] == ["explore", "exploit"]
    assert schedule_of(trials=1).n == 1
    assert schedule_of().n == 30


def test_grid_and_one_at_a_time() -> None:
    grid = schedule_of([LR, KIND], mode="grid", points=3)
    assert grid.n == 1 + 3 * 3
    assert {(p["lr"], p["kind"]) for p in grid.points[1:] if p} == {
        (lr, kind) for lr in (1e-5, 1e-3, 1e-1) for kind in "abc"
    }
    assert one_at_a_time([LR, KIND], 3) == [{"lr": 1e-5}, {"lr": 1e-1}, {"kind": "b"}, {"kind": "c"}]
    with pytest.raises(
        ConfigError, match=r'mode = "grid" has 26 points over 2 settings, and tune.trials is 9; raise it'
    ):
        schedule_of(mode="grid", trials=9)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_exploitation_beats_exploration(sampler: str) -> None:
    schedule = schedule_of(trials=24, explore=10, sampler=sampler)
    study = study_of(schedule)
    run_all(study, schedule, bowl)
    values = [trial.value or math.inf for trial in study.trials]
    assert values[0] == pytest.approx(bowl({"lr": 1e-3, "drop": 0.1}))
    assert min(values[11:]) < min(values[:11])
    assert np.mean(values[11:]) < 0.5 * np.mean(values[1:11])


def test_a_study_that_was_stopped_goes_on_as_one_that_was_not(tmp_path: Path) -> None:
    schedule = schedule_of(trials=12, explore=4)
    whole = study_of(schedule)
    run_all(whole, schedule, bowl)
    storage = open_storage(None, tmp_path, 10)
    first = schedule_of(trials=7, explore=4)
    run_all(study_of(first, storage), first, bowl)
    again = study_of(schedule, open_storage(None, tmp_path, 10))
    run_all(again, schedule, bowl)
    assert [t.params for t in again.trials] == [t.params for t in whole.trials]


def test_scientific_settings_get_as_many_trials_each() -> None:
    schedule = schedule_of([LR, KIND], trials=19, explore=9)
    study = study_of(schedule)
    run_all(study, schedule, lambda v: (math.log10(v["lr"]) + 2) ** 2 + "abc".index(v["kind"]))
    trials = trials_of(study, schedule, "all rows")
    rows = scientific([LR, KIND], trials, greater_is_better=False)
    assert [row["values"]["kind"] for row in rows] == ["a", "b", "c"]
    assert [row["trials"] for row in rows] == [6, 6, 6]


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband"])
def test_pruners_stop_what_falls_behind(pruner: str) -> None:
    schedule = schedule_of(trials=20, explore=20)
    study = study_of(schedule, pruner=pruner)

    def objective(trial: optuna.Trial) -> float:
        level = _suggest(trial, LR, schedule)
        for step in range(1, 10):
            trial.report(level, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(level)

    work(study, objective, schedule.n, may_begin=lambda: True, waiting=lambda _: None)
    trials = trials_of(study, schedule, "all rows")
    states = [trial["state"] for trial in trials]
    assert len(states) == 20
    assert states.count("pruned") >= 4
    best = best_of(trials, greater_is_better=False)
    assert best is not None
    assert best["value"] <= np.quantile([trial["value"] for trial in trials], 0.1)


def test_a_failed_trial_is_recorded_and_the_study_goes_on() -> None:
    schedule = schedule_of(trials=6, explore=5)

    def fail_at_the_third(trial: optuna.Trial) -> float:
        if trial.number == 2:
            trial.set_user_attr("why", "out of memory")
            raise MemoryError
        return float(trial.number)

    study = study_of(schedule)
    work(study, fail_at_the_third, schedule.n, may_begin=lambda: True, waiting=lambda _: None)
    trials = trials_of(study, schedule, "all rows")
    assert [trial["state"] for trial in trials] == ["complete", "complete", "failed"] + ["complete"] * 3
    assert trials[2]["why"] == "out of memory"


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_of_a_dead_process_is_tried_again_once(tmp_path: Path) -> None:
    schedule = schedule_of(trials=4, explore=3)
    storage = open_storage(None, tmp_path, 10)
    study = study_of(schedule, storage)
    dead = {**mine(), "pid": 2**22 + 1}
    for _ in range(2):  # two trials are begun, and their process dies
        trial = study.ask()
        trial.set_user_attr(WHO, dead)
    assert is_gone(dead)
    assert not is_gone(mine())
    assert is_gone({**mine(), "since": "1"}), "a number that another process has by now"
    seen: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        trials = study.get_trials(deepcopy=False)
        seen.append(place_of(trials, trial.number))
        return 1.0

    work(study, objective, schedule.n, may_begin=lambda: True, waiting=lambda _: None)
    assert seen == [0, 1, 2, 3]
    trials = trials_of(study, schedule, "all rows")
    assert [trial["state"] for trial in trials] == ["complete"] * 4
    assert [trial["tries"] for trial in trials] == [2, 2, 1, 1]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_what_kills_its_process_twice_is_left(tmp_path: Path) -> None:
    schedule = schedule_of(trials=2, explore=1)
    study = study_of(schedule, open_storage(None, tmp_path, 10))
    dead = {**mine(), "pid": 2**22 + 1}
    study.ask().set_user_attr(WHO, dead)
    work(study, lambda _: 1.0, 0, may_begin=lambda: False, waiting=lambda _: None)
    study.ask().set_user_attr(WHO, dead)  # the second try, which dies as well
    work(study, lambda _: 1.0, schedule.n, may_begin=lambda: True, waiting=lambda _: None)
    trials = trials_of(study, schedule, "all rows")
    assert [(trial["state"], trial["tries"], trial["why"]) for trial in trials] == [
        ("failed", 2, "its process died"),
        ("complete", 1, None),
    ]
    assert AGAIN in study.trials[1].user_attrs


def test_ctrl_c_loses_no_trial(tmp_path: Path) -> None:
    schedule = schedule_of(trials=3, explore=2)
    study = study_of(schedule, open_storage(None, tmp_path, 10))

    def stop(trial: optuna.Trial) -> float:
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            work(study, stop, schedule.n, may_begin=lambda: True, waiting=lambda _: None)
    work(study, lambda _: 1.0, schedule.n, may_begin=lambda: True, waiting=lambda _: None)
    assert [trial["state"] for trial in trials_of(study, schedule, "all rows")] == ["complete"] * 3


def test_importances_find_the_setting_that_matters_and_borders_are_told() -> None:
    schedule = schedule_of(trials=24, explore=23)
    study = study_of(schedule)
    run_all(study, schedule, lambda v: -math.log10(v["lr"]) + 0.01 * v["drop"])
    trials = trials_of(study, schedule, "all rows")
    found = importances([LR, DROP], trials)
    assert list(found) == ["lr", "drop"]
    assert found["lr"] > 0.9
    assert sum(found.values()) == pytest.approx(1)
    assert importances([LR, DROP], trials[:4]) == {}
    best = best_of(trials, greater_is_better=False)
    assert best is not None
    edge = {**best, "params": {"lr": 0.09, "drop": 0.2}}
    [border] = borders([LR, DROP], edge)
    assert border["sentence"] == (
        "the best lr, 0.09, lies at the upper end of its range (1e-05 to 0.1, log), so that better ones may "
        'lie beyond; try "lr" = { low = 1e-05, high = 1.0, log = true } in [tune.space]'
    )


def test_confirmation_is_the_paired_t_test() -> None:
    default = {1: 0.80, 2: 0.82, 3: 0.81, 4: 0.79}
    winner = {1: 0.84, 2: 0.85, 3: 0.86, 4: math.nan}
    found = confirm(default, winner, greater_is_better=True)
    assert found is not None
    reference = stats.ttest_rel([0.84, 0.85, 0.86], [0.80, 0.82, 0.81])
    assert found.difference.p == pytest.approx(reference.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx(
        tuple(reference.confidence_interval())
    )
    assert found.lost == [4]
    assert found.verdict == "better"
    worse = confirm(default, winner, greater_is_better=False)
    assert worse is not None
    assert worse.verdict == "worse"
    assert "the winner is worse than the default by +0.0400" in worse.in_words()
    single = confirm({1: 0.8}, {1: 0.9}, greater_is_better=True)
    assert single is not None
    assert single.verdict == "undecided"
    assert single.in_words() == "the winner has +0.1000 on 1 fresh seed, which is too few for an interval"
    assert confirm({1: 0.8}, {1: math.nan}, greater_is_better=True) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("no database", "the storage 'no database' is no address of a database; write it as postgresql://"),
        (
            "sqlite:////nowhere/at/all.db",
            "cannot be opened: unable to open database file; see that it can be",
        ),
        (
            "postgresql://me:secret@127.0.0.1:1/x",
            "the storage postgresql://me@127.0.0.1:1/x cannot be opened: ",
        ),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_sentence(url: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as refused:
        open_storage(url, tmp_path, 10)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
