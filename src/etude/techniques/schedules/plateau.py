"""Plateau: lower the learning rate when the loss, or a validation metric, no longer gets better.

Idea: no plan of the run knows when a rate has given all it can; the loss does. Hold the rate while it
improves, and lower it once it has stood still for long.

Formula, with a value v every so many steps, the best one b so far, patience n, threshold ε and factor γ:

* v counts as better if v < b (1 - ε), or v > b (1 + ε) for a metric that should rise
* after more than n values in a row that are no better, the learning rate is multiplied by γ, and for the
  next ``cooldown`` values nothing is counted
* over the last share of the run, the ``tail``, the rate falls to zero along a line or half a cosine from
  wherever it is, and nothing is counted any more

Paper: none; the rule is old practice, as in He et al. 2016 (1512.03385), section 3.4, "divided by 10 when
the error plateaus"; the counting is that of torch's ReduceLROnPlateau.

When it helps: long runs whose length was guessed; data too large for more than one epoch, on the training
loss; with weight averaging over the last part of the run, since the rate is flat between its falls.
When not: short fine-tuning, where a planned decay does better and nothing has to be measured.

Suggested values: a high patience, so that the rate falls as late as possible (it is worth tuning); γ = 0.1
to 0.5; a tail of 0.1 to 0.2 of the run, or a weight average over it.

Cost: 1 pass; with ``on = "validation"`` a validation every so many steps; one number.

Clashes: another schedule.

``on = "train"`` looks at the mean training loss of the steps since the last look, ``on = "validation"`` at
the metric that ``metric`` names. Drawn by ``etude show plateau --plot`` it is as if all got better always.

NOTE[DIFF]: in the warm-up nothing is counted, and a step that was skipped has no loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import OBSERVE, SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError, closest
from etude.techniques.schedules import Clock, checked


class PlateauConfig(TechniqueConfig):
    """Settings of the plateau schedule."""

    name: Literal["plateau"] = "plateau"
    on: Literal["train", "validation"] = setting(
        "train", help="look at the mean training loss, or at a metric of the validation part"
    )
    metric: str = setting("loss", help="the validation metric; names that end in 'loss' should fall")
    every: Time = setting(Time(0.02, "dur"), help="how often it looks, as '100st' or '1ep'")
    patience: int = setting(10, help="values without an improvement that are borne", unit="values", ge=0)
    factor: float = setting(
        0.1, help="what each fall multiplies by", gt=0.0, le=1.0, search=SearchRange(0.1, 0.7, "log")
    )
    threshold: float = setting(
        1e-4, help="relative improvement that counts as one", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.01)
    )
    cooldown: int = setting(0, help="values after a fall that are not counted", unit="values", ge=0)
    final: float = setting(0.0, help="falls stop at this factor of the learning rate", ge=0.0, le=1.0)
    tail: float = setting(
        0.0, help="last share of the run, in which the rate falls to zero", ge=0.0, le=1.0,
        search=SearchRange(0.0, 0.3),
    )  # fmt: skip
    tail_shape: Literal["linear", "cosine"] = setting("linear", help="how the rate falls in the tail")

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.every.amount == 0:
            raise ValueError(f"every is {self.every} and must be longer")
        if self.on == "train" and self.metric != "loss":
            raise ValueError(
                f'metric is \'{self.metric}\' and on = "train" knows the loss only; set on = "validation"'
            )
        return self


@dataclass(frozen=True, slots=True)
class Count:
    """What is known after some values.

    Attributes:
        best: the best value, or nan before the first.
        bad: values in a row that were no better.
        rest: values that will not be counted.
        scale: the product of all falls.
    """

    best: float = math.nan
    bad: int = 0
    rest: int = 0
    scale: float = 1.0


def count_on(count: Count, value: float, config: PlateauConfig, *, rises: bool = False) -> Count:
    """Return the count after one more value.

    Args:
        count: the count before it.
        value: the loss or the metric; what is not finite is no improvement.
        config: the settings.
        rises: whether the metric should rise.

    >>> count, config = Count(), PlateauConfig(patience=1, factor=0.5)
    >>> for value in (3.0, 2.0, 2.0, 2.0, 2.0, 1.0):
    ...     count = count_on(count, value, config)
    ...     print(value, count.bad, count.scale)
    3.0 0 1.0
    2.0 0 1.0
    2.0 1 1.0
    2.0 0 0.5
    2.0 1 0.5
    1.0 0 0.5
    """
    limit = count.best * (1.0 + config.threshold if rises else 1.0 - config.threshold)
    first = math.isnan(count.best) and math.isfinite(value)
    if first or (value > limit if rises else value < limit):
        count = replace(count, best=value, bad=0)
    else:
        count = replace(count, bad=count.bad + 1)
    if count.rest > 0:
        count = replace(count, rest=count.rest - 1, bad=0)
    if count.bad > config.patience:
        lowered = max(count.scale * config.factor, min(config.final, count.scale))
        count = replace(count, bad=0, rest=config.cooldown, scale=lowered)
    return count


def tail_factor(progress: float, tail: float, shape: Literal["linear", "cosine"]) -> float:
    """Return 1 before the tail, and in it what is left of the way to zero.

    Args:
        progress: share of the schedule that is done, in [0, 1].
        tail: the last share of the schedule, in [0, 1].
        shape: a line or half a cosine.

    Raises:
        ValueError: ``progress`` is out of [0, 1].

    >>> [round(tail_factor(p, 0.2, "linear"), 4) for p in (0.5, 0.8, 0.85, 1.0)]
    [1.0, 1.0, 0.75, 0.0]
    """
    if checked(progress) <= 1.0 - tail:
        return 1.0
    share = min((progress - (1.0 - tail)) / tail, 1.0)
    return 1.0 - share if shape == "linear" else (1.0 + math.cos(math.pi * share)) / 2.0


class Plateau(Technique[PlateauConfig]):
    """Looks at the loss or a metric, counts, and lowers the learning rate."""

    Config = PlateauConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="He et al. 2016, arXiv 1512.03385, section 3.4",
        neutral={"factor": 1.0, "tail": 0.0},
        # In the few steps of a test, a loss that is not halved from one value to the next stands still.
        example={"patience": 0, "threshold": 0.5},
    )

    def __init__(self, config: PlateauConfig) -> None:
        super().__init__(config)
        self._count = Count()
        self._sum = torch.zeros(())
        self._n_losses = self._looked = 0
        self._every = self._from = 1
        self._until = 0

    def attach(self, plan: Plan) -> None:
        config, clock = self.config, Clock(plan)
        if config.factor == 1.0 and config.tail == 0.0:
            return
        self._every = max(plan.context.steps(config.every), 1)

        def factor(progress: float) -> float:
            self._from = clock.rise
            self._until = clock.step(1.0 - config.tail)
            return self._count.scale * tail_factor(progress, config.tail, config.tail_shape)

        plan.add(SCHEDULE, factor)
        plan.add(OBSERVE, self)

    def on_start(self, run: Any) -> None:
        """Refuse to look at a validation part that is not there.

        Raises:
            ConfigError: there is none.
        """
        if self.config.on == "validation" and run.validation is None:
            raise ConfigError(
                'plateau.on is "validation" and the run has no validation part; set data.validation, or '
                'on = "train"'
            )

    def on_step(self, run: Any) -> None:
        """Add the step's loss up; where it is time, count the mean or ask for the metric."""
        if run.skipped > 0:
            return
        due = run.step % self._every == 0
        if self.config.on == "validation":
            if due and self._counts(run):
                run.request("evaluate")
            return
        if run.step <= self._from:
            return
        self._sum, self._n_losses = self._sum.to(run.loss.device) + run.loss, self._n_losses + 1
        if due:
            value = float(self._sum) / self._n_losses
            self._sum, self._n_losses = torch.zeros_like(self._sum), 0
            self._take(run, value, rises=False)

    def on_epoch(self, run: Any) -> None:
        """Steps tell everything."""

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Count the metric, where it was asked for.

        Raises:
            ConfigError: there is no such metric.
        """
        metric = self.config.metric
        if self.config.on == "train" or run.step % self._every != 0 or run.step == self._looked:
            return
        if metric not in scores:
            raise ConfigError(
                f"plateau.metric is '{metric}' and there is no such metric{closest(metric, scores)} "
                f"(there are {', '.join(scores)})"
            )
        self._looked = run.step  # an average may have the last step scored twice
        self._take(run, scores[metric], rises=not metric.endswith("loss"))

    def on_end(self, run: Any) -> None:
        """No step follows."""

    def _counts(self, run: Any) -> bool:
        return bool(self._from < run.step <= self._until)

    def _take(self, run: Any, value: float, *, rises: bool) -> None:
        if not self._counts(run):
            return
        before, self._count = self._count, count_on(self._count, value, self.config, rises=rises)
        if self._count.scale != before.scale:
            run.log({"plateau": {"value": value, "best": self._count.best, "factor": self._count.scale}})

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        count = self._count
        return {
            "best": "" if math.isnan(count.best) else count.best,
            "bad": count.bad,
            "rest": count.rest,
            "scale": count.scale,
            "loss_sum": self._sum,
            "losses": self._n_losses,
            "looked": self._looked,
        }

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        if not state:
            return
        numbers = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
        best = numbers["best"]
        self._count = Count(
            math.nan if best == "" else float(best),
            int(numbers["bad"]),
            int(numbers["rest"]),
            float(numbers["scale"]),
        )
        self._sum = torch.as_tensor(state["loss_sum"]).clone()
        self._n_losses, self._looked = int(numbers["losses"]), int(numbers["looked"])
