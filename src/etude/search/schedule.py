"""What each trial of a study tries, as a function of its place in the study.

A trial's place decides whether its settings are the config's own, a point of an even spread, a point of a
grid, or what the sampler proposes. So nothing has to be prepared or locked: any number of processes take
places from one database, and none of them can do another's work.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from etude.config.tune import TuneConfig
from etude.core.rng import numpy_generator
from etude.errors import ConfigError
from etude.search.dimension import Dimension

Phase = Literal["default", "explore", "exploit", "grid", "survivor", "confirm"]
TRIALS = 30
"""Trials of a search for which nobody gave a number."""
PLACE = "place"
"""A trial's attribute: its place in the study, which a second try keeps."""


@dataclass(frozen=True)
class Schedule:
    """The trials of one study.

    Attributes:
        dimensions: what is tuned.
        points: settings of the first places; None of a place stands for the config's own.
        phases: what each of the points is.
        n: how many places there are; those beyond the points are the sampler's.
        sampler: which one.
        seed: of all draws.
    """

    dimensions: Sequence[Dimension]
    points: Sequence[Mapping[str, Any] | None]
    phases: Sequence[Phase]
    n: int
    sampler: Literal["tpe", "gp"] = "tpe"
    seed: int = 0
    distributions: dict[str, BaseDistribution] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "distributions", {d.path: distribution(d) for d in self.dimensions})

    def phase(self, place: int) -> Phase:
        """What a place is there for."""
        return self.phases[place] if place < len(self.phases) else "exploit"

    def scientific(self, place: int) -> dict[str, Any]:
        """The scientific settings of a place: every combination gets equally many trials."""
        scientific = [d for d in self.dimensions if d.role == "scientific"]
        combinations = list(itertools.product(*(d.choices for d in scientific)))
        chosen = combinations[place % len(combinations)]
        return {d.path: value for d, value in zip(scientific, chosen, strict=True)}


def make_schedule(tune: TuneConfig, dimensions: Sequence[Dimension], seed: int) -> Schedule:
    """Return the trials of a study as its config has them.

    Raises:
        ConfigError: a grid has more points than there are trials.
    """
    if tune.mode == "search":
        n = tune.trials or TRIALS
        explore = min(tune.explore if isinstance(tune.explore, int) else math.ceil(tune.explore * n), n - 1)
        points: list[Mapping[str, Any] | None] = [None, *spread(dimensions, explore, seed)]
        explored: list[Phase] = ["explore"] * explore
        phases: list[Phase] = ["default", *explored]
        return Schedule(dimensions, points, phases, n, tune.sampler, seed)
    points = [None, *(grid if tune.mode == "grid" else one_at_a_time)(dimensions, tune.points)]
    if tune.trials is not None and len(points) > tune.trials:
        raise ConfigError(
            f'tune.mode = "{tune.mode}" has {len(points):,} points over {len(dimensions)} settings, and '
            f"tune.trials is {tune.trials}; raise it, lower tune.points, or fix settings in [tune.space]"
        )
    gridded: list[Phase] = ["grid"] * (len(points) - 1)
    return Schedule(dimensions, points, ["default", *gridded], len(points), seed=seed)


def spread(dimensions: Sequence[Dimension], n: int, seed: int) -> list[dict[str, Any]]:
    """Return n points that cover the space evenly: a scrambled Sobol sequence (Owen 1998).

    Scientific settings are dealt in turn instead, so that each of their values gets as many points.

    >>> [round(point["p"], 2) for point in spread([Dimension("p", 0.0, 1.0)], 4, seed=0)]
    [0.48, 0.56, 0.99, 0.04]
    """
    if n <= 0:
        return []
    drawn = torch.quasirandom.SobolEngine(len(dimensions), scramble=True, seed=seed).draw(n).tolist()
    whole = Schedule(dimensions, [], [], n)
    return [
        {d.path: d.at(share) for d, share in zip(dimensions, shares, strict=True)}
        | whole.scientific(place + 1)
        for place, shares in enumerate(drawn)
    ]


def grid(dimensions: Sequence[Dimension], points: int) -> list[dict[str, Any]]:
    """Return every combination of the settings' values.

    >>> len(grid([Dimension("a", 0.0, 1.0), Dimension("b", choices=(1, 2))], 3))
    6
    """
    paths = [d.path for d in dimensions]
    return [
        dict(zip(paths, values, strict=True))
        for values in itertools.product(*(d.grid(points) for d in dimensions))
    ]


def one_at_a_time(dimensions: Sequence[Dimension], points: int) -> list[dict[str, Any]]:
    """Return each setting's values one after the other; all others stay as the config has them.

    >>> one_at_a_time([Dimension("a", 0.0, 1.0, default=1.0), Dimension("b", choices=("x", "y"))], 2)
    [{'a': 0.0}, {'b': 'x'}, {'b': 'y'}]
    """
    return [{d.path: value} for d in dimensions for value in d.grid(points) if value != d.default]


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension in Optuna's terms."""
    if dimension.choices:
        return CategoricalDistribution([label(choice) for choice in dimension.choices])
    if dimension.whole:
        return IntDistribution(int(dimension.low or 0), int(dimension.high or 0), log=dimension.log)
    return FloatDistribution(float(dimension.low or 0), float(dimension.high or 0), log=dimension.log)


def label(choice: Any) -> Any:
    """A choice as Optuna can keep it: plain values as they are, lists and tables as text."""
    return choice if isinstance(choice, (str, int, float, bool)) else repr(choice)


def value_of(dimension: Dimension, kept: Any) -> Any:
    """The value that a label stands for."""
    return next((choice for choice in dimension.choices if label(choice) == kept), kept)


def place_of(trials: Sequence[FrozenTrial], number: int) -> int:
    """The place of a trial: how many there were before it, second tries left out, which keep theirs."""
    before = [trial for trial in trials if trial.number <= number]
    mine = next((trial for trial in before if trial.number == number), None)
    if mine is not None and PLACE in mine.user_attrs and "again" in mine.user_attrs:
        return int(mine.user_attrs[PLACE])
    return sum("again" not in trial.user_attrs for trial in before if trial.number < number)


class Scheduled(BaseSampler):
    """Gives each trial the settings of its place; beyond the points it asks TPE or a Gaussian process.

    Attributes:
        study: the whole study, to be set once it is open: Hyperband hands samplers a part of it.
    """

    study: optuna.Study

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._schedule.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        schedule = self._schedule
        place = place_of(self.study.get_trials(deepcopy=False), trial.number)
        if place < len(schedule.points):
            point = schedule.points[place]
            if point is None:
                point = {d.path: d.default for d in schedule.dimensions if d.holds(d.default)}
            return {path: label(value) for path, value in point.items()}
        fixed = {path: label(value) for path, value in schedule.scientific(place).items()}
        free = {path: found for path, found in search_space.items() if path not in fixed}
        return self._proposed(study, trial, free, place) | fixed if free else fixed

    def _proposed(
        self, study: optuna.Study, trial: FrozenTrial, free: dict[str, BaseDistribution], place: int
    ) -> dict[str, Any]:
        """Ask a sampler made for this place, so that two processes never propose the same."""
        seed = int(numpy_generator(self._schedule.seed, "tune", place).integers(2**31))
        sampler = make_sampler(self._schedule.sampler, seed)
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        proposed = sampler.sample_relative(study, trial, free) if done else {}
        missing = {path: found for path, found in free.items() if path not in proposed}
        return proposed | {
            path: sampler.sample_independent(study, trial, path, found) for path, found in missing.items()
        }

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise NotImplementedError(f"{param_name} is none of the schedule's settings")


def make_sampler(name: Literal["tpe", "gp"], seed: int) -> BaseSampler:
    """TPE over all settings together (Bergstra et al. 2011), or a Gaussian process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "gp":
            return GPSampler(seed=seed, n_startup_trials=1)
        return TPESampler(seed=seed, n_startup_trials=1, multivariate=True, constant_liar=True)
