"""LAWA: evaluate and keep the mean of the last k checkpoints.

Idea: the weights of the last few epochs differ by noise that their mean does not have. It is where
training would arrive some epochs later, so that a run can end earlier.

Formula, with weights w_1, ..., w_n at the ends of epochs or every so many steps:

* s = (w_{n-k+1} + ... + w_n) / k, or the mean of all n while n < k

Paper: Kaddour 2022 (2209.14981).

When it helps: wherever time counts; long runs under a high learning rate, at any moment of them.
When not: k epochs ago the weights were still poor, as in very short runs.

Suggested values: k from 3 to 6 epoch ends; in steps, k times ``every`` should be about an epoch.

Cost: 1 pass; k copies of the weights, and at the end one pass over the training rows where there is
BatchNorm.

Clashes: another average.

NOTE[DIFF]: the weights that are taken are counted back from the run's last step, so that the last ones
are always among them. A model with BatchNorm is scored with its own weights until statistics have been
taken under the mean, at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Self

from pydantic import model_validator
from torch import Tensor, nn

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import AVERAGE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.averaging import (
    Weights,
    averaging_steps,
    batch_norms,
    copied,
    lent,
    mean_of,
    statistics_for,
    under_prefix,
    weights_of,
    with_prefix,
)


class LAWAConfig(TechniqueConfig):
    """Settings of latest weight averaging."""

    name: Literal["lawa"] = "lawa"
    k: int = setting(5, help="how many of the latest weights are averaged", ge=1, search=SearchRange(2, 10))
    every: Time = setting(Time(1, "ep"), help="how often weights are taken, as '1ep' or '100st'")

    @model_validator(mode="after")
    def _every_is_some_time(self) -> Self:
        if self.every.amount == 0:
            raise ValueError(f"every is {self.every} and must be longer")
        return self


class Latest:
    """The latest k sets of weights.

    >>> import torch
    >>> latest = Latest(2)
    >>> for value in (1.0, 2.0, 6.0):
    ...     latest.take({"w": torch.tensor(value)})
    >>> latest.mean()
    {'w': tensor(4.)}
    """

    def __init__(self, k: int) -> None:
        self._taken: deque[Weights] = deque(maxlen=k)

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Keep copies of the weights, and forget the oldest where there are k."""
        self._taken.append(copied(weights))

    def mean(self) -> Weights:
        """The mean of what is kept; empty where nothing is."""
        return mean_of(list(self._taken)) if self._taken else {}

    def state(self) -> dict[str, Tensor]:
        """Everything that is kept, by its place and its name."""
        return {name: v for i, w in enumerate(self._taken) for name, v in with_prefix(f"{i}.", w).items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take a state back."""
        n = len({name.split(".")[0] for name in state})
        self._taken.clear()
        self._taken.extend(under_prefix(f"{i}.", state) for i in range(n))


class LAWA(Technique[LAWAConfig]):
    """Keeps the latest weights and lends their mean."""

    Config = LAWAConfig
    facts = Facts(
        family="averaging",
        phase=AVERAGE,
        paper="Kaddour 2022, arXiv 2209.14981",
        neutral={"k": 1},
    )

    def __init__(self, config: LAWAConfig) -> None:
        super().__init__(config)
        self._latest = Latest(config.k)
        self._statistics: Weights = {}
        self._steps: frozenset[int] = frozenset()

    def attach(self, plan: Plan) -> None:
        if self.config.k > 1:
            self._steps = averaging_steps(plan.context, 0, self.config.every)
            plan.add(AVERAGE, self)

    def update(self, model: nn.Module, moment: Moment) -> None:
        """Take the new weights in, where it is time."""
        if moment.step + 1 in self._steps:
            self._latest.take(weights_of(model))

    def lend(self, model: nn.Module) -> AbstractContextManager[None]:
        """Put the mean into the model, with statistics that fit; the raw weights come back on leaving."""
        ready = bool(self._statistics) or not batch_norms(model)
        return lent(model, {**self._latest.mean(), **self._statistics} if ready else {})

    def settle(self, run: Any) -> bool:
        """Take BatchNorm's statistics under the mean."""
        if len(self._latest) and not self._statistics:
            self._statistics = statistics_for(run, self._latest.mean())
            return bool(self._statistics)
        return False

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        latest = with_prefix("latest.", self._latest.state())
        return {**latest, **with_prefix("statistics.", self._statistics)}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        self._latest.load(under_prefix("latest.", state))
        self._statistics = under_prefix("statistics.", state)
