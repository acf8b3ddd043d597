"""Stability ladder: where steps break, change one thing after the other until they hold.

Idea: a loss or a gradient that is not finite has known remedies. The mildest is tried first, each one is
logged, and a run that would have ended in nan overnight goes on.

Formula: a step whose loss or gradient norm is not finite is left out. After ``patience`` such steps, with
fewer than ``forget_after`` good ones in a row between them, the run climbs one rung:

* ``eps``, ``eps_raises`` times: the optimizer's ε is multiplied by 10 (1e-8, 1e-7, 1e-6)
* ``lr``: every learning rate is multiplied by ``lr_factor`` from here on
* ``revert``: weights, moments and their average go back to the last good state, the data moves on
* ``precision``: the model leaves bf16 or fp16, and goes back as well if its weights are broken
* after the last rung the run ends with an error

Paper: Chowdhery et al. 2022 (2204.02311), section 5.1, which goes back to an earlier state and moves the
data on; Micikevicius et al. 2018 (1710.03740), section 3.2, which leaves steps out.

When it helps: long runs, low precision, high learning rates, decoders; runs that nobody watches.
When not: it hides what should be mended where the data hold broken numbers; read what it logs.

Suggested values: patience 3; a state every 100 steps; in fp16, where ε = 1e-4 and more has helped, 4 to 8
raises. If it climbs in the first steps, a longer warm-up and clipping are the better remedy.

Cost: 1 pass; one norm of the gradient; a copy of the weights and of the optimizer's numbers, in memory
and in each checkpoint.

Clashes: none.

A rung that cannot help is passed over: ε and the learning rate where the weights themselves are broken, ε
where the optimizer has none, precision in fp32. In fp16, steps are counted only after the gradient scaler
has come down to a scale of 1, since leaving steps out is how it finds its scale.

NOTE[DIFF]: the papers' remedies are applied by hand, and restarts come from disk; here from memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from etude.config.fields import Time, setting
from etude.core.phases import AVERAGE, GRADIENT, OBSERVE, TUNE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import RunError

FIRST, LAST = -1000, 1000
"""Ranks: the norm is taken before anything changes gradients, rates are lowered after all else."""
Rung = Literal["eps", "lr", "revert", "precision"]
State = dict[str, Tensor | int | float | str]


class StabilityLadderConfig(TechniqueConfig):
    """Settings of the ladder."""

    name: Literal["stability_ladder"] = "stability_ladder"
    patience: int = setting(3, help="steps left out until the next rung", unit="steps", ge=1)
    forget_after: int = setting(
        100, help="good steps in a row after which the count begins anew", unit="steps", ge=1
    )
    eps_raises: int = setting(2, help="how often ε is multiplied by 10 before the next rung", ge=0, le=8)
    lr_factor: float = setting(0.1, help="what learning rates are multiplied by", gt=0.0, lt=1.0)
    snapshot_every: Time = setting(Time(100, "st"), help="how often a good state is kept in memory")

    @model_validator(mode="after")
    def _snapshots_are_some_time_apart(self) -> Self:
        if self.snapshot_every.amount == 0:
            raise ValueError(f"snapshot_every is {self.snapshot_every} and must be longer")
        return self


def ladder(eps_raises: int) -> tuple[Rung, ...]:
    """Return the rungs from the first to the last.

    Raises:
        ValueError: ``eps_raises`` is below 0.

    >>> ladder(2)
    ('eps', 'eps', 'lr', 'revert', 'precision')
    """
    if eps_raises < 0:
        raise ValueError(f"eps_raises is {eps_raises} and must be 0 or more")
    first: list[Rung] = ["eps"] * eps_raises
    return (*first, "lr", "revert", "precision")


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every number is finite.

    >>> all_finite([torch.zeros(2), torch.tensor([1.0, float("nan")])])
    False
    """
    # One transfer for all tensors: the host waits for the device once.
    return not tensors or bool(torch.stack([torch.isfinite(value).all() for value in tensors]).all())


def take_snapshot(run: Any) -> State:
    """Return copies of the weights, the optimizer's numbers and the averages, under flat names."""
    state: State = {f"model.{name}": value for name, value in run.backbone.state_dict().items()}
    for i, numbers in run.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{i}.{name}": value for name, value in numbers.items()}
    for key, technique in _averages(run).items():
        state |= {f"average.{key}.{name}": value for name, value in technique.state_dict().items()}
    return _copied(state)


def go_back(run: Any, snapshot: Mapping[str, Any]) -> None:
    """Put a snapshot's weights, numbers and averages into the run; its steps and rates stay."""
    run.backbone.load_state_dict(_part(snapshot, "model."))
    moments: dict[int, dict[str, Any]] = {}
    for name, value in _part(snapshot, "optimizer.").items():
        i, key = name.split(".", 1)
        moments.setdefault(int(i), {})[key] = value
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for key, technique in _averages(run).items():
        technique.load_state_dict(_part(snapshot, f"average.{key}."))


def leave_half_precision(run: Any) -> None:
    """Take accelerate's autocast from the model's forward pass; the weights are float32 as ever."""
    run.accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)


def _averages(run: Any) -> dict[str, Technique[Any]]:
    names = {entry.technique for entry in run.plan.entries() if entry.phase is AVERAGE}
    return {name: run.plan.techniques[name] for name in sorted(names)}


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in state.items()}


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return _copied({name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)})


class StabilityLadder(Technique[StabilityLadderConfig]):
    """Counts steps that were left out, and climbs."""

    Config = StabilityLadderConfig
    facts = Facts(
        family="stability",
        phase=OBSERVE,
        paper="Chowdhery et al. 2022, arXiv 2204.02311; Micikevicius et al. 2018, arXiv 1710.03740",
        neutral={"patience": 1_000_000_000},
    )

    def __init__(self, config: StabilityLadderConfig) -> None:
        super().__init__(config)
        self._rungs = ladder(config.eps_raises)
        self._climbed = self._strikes = self._calm = 0
        self._raises = self._lowered = self._in_full = 0
        self._snapshot: State = {}
        self._eps: list[Any] = []
        self._every = 1

    def attach(self, plan: Plan) -> None:
        self._every = max(plan.context.steps(self.config.snapshot_every), 1)
        plan.add(OBSERVE, self)
        plan.add(GRADIENT, _norm, rank=FIRST)
        plan.add(TUNE, self.tune, rank=LAST)

    def tune(self, groups: Sequence[dict[str, Any]], moment: Moment) -> None:
        """Raise ε and lower the learning rates as far as the run has climbed."""
        if not self._eps:
            self._eps = [group.get("eps") for group in groups]
        for group, eps in zip(groups, self._eps, strict=True):
            if self._lowered:
                group["lr"] *= self.config.lr_factor**self._lowered
            if self._raises and isinstance(eps, float):
                group["eps"] = eps * 10.0**self._raises

    def on_start(self, run: Any) -> None:
        """Be as high on the ladder as before a stop, and have a state to go back to."""
        if self._in_full:
            leave_half_precision(run)
        if not self._snapshot:
            self._snapshot = take_snapshot(run)

    def on_step(self, run: Any) -> None:
        """Count, keep a good state where it is time, climb where it is needed.

        Raises:
            RunError: the last rung did not help.
        """
        if run.skipped == 0:
            self._calm += 1
            if self._calm >= self.config.forget_after:
                self._strikes = 0
            if run.step % self._every == 0 and self._weights_hold(run):
                self._snapshot = take_snapshot(run)
            return
        self._calm = 0
        scaler = run.accelerator.scaler
        if scaler is not None and scaler.get_scale() > 1.0:
            return
        self._strikes += 1
        if self._strikes >= self.config.patience:
            self._strikes = 0
            self._climb(run)

    def on_epoch(self, run: Any) -> None:
        """Steps tell everything."""

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Steps tell everything."""

    def on_end(self, run: Any) -> None:
        """The last step has been seen."""

    def _weights_hold(self, run: Any) -> bool:
        return all_finite([value.detach() for value in run.backbone.parameters()])

    def _climb(self, run: Any) -> None:
        hold = self._weights_hold(run)
        while self._climbed < len(self._rungs):
            rung = self._rungs[self._climbed]
            self._climbed += 1
            if self._helps(rung, run, hold=hold):
                said = self._do(rung, run, hold=hold)
                run.log({"stability": {"rung": self._climbed, "did": rung, "said": said}})
                run.reporter.warn(f"stability_ladder after step {run.step}: {said}")
                return
        raise RunError(
            f"the loss or the gradient after step {run.step} is still not finite at the top of the stability "
            "ladder; look for broken numbers in the data, or start again with a lower optimizer.lr"
        )

    def _helps(self, rung: Rung, run: Any, *, hold: bool) -> bool:
        if rung == "eps":
            return hold and any(isinstance(eps, float) for eps in self._eps)
        if rung == "precision":
            return run.plan.context.precision != "fp32"
        return hold or rung == "revert"

    def _do(self, rung: Rung, run: Any, *, hold: bool) -> str:
        """Climb the rung, and return what was done."""
        if rung == "eps":
            self._raises += 1
            highest = max(eps for eps in self._eps if isinstance(eps, float))
            return f"the optimizer's eps is now {highest * 10.0**self._raises:.0e}"
        if rung == "lr":
            self._lowered += 1
            return f"learning rates are multiplied by {self.config.lr_factor:g} from now on"
        if rung == "revert" or not hold:
            go_back(run, self._snapshot)
        if rung == "revert":
            return "the weights and the optimizer went back to the last good state"
        self._in_full = 1
        leave_half_precision(run)
        return f"the model left {run.plan.context.precision} and computes in fp32"

    def state_dict(self) -> State:
        counts = {
            "climbed": self._climbed,
            "strikes": self._strikes,
            "calm": self._calm,
            "raises": self._raises,
            "lowered": self._lowered,
            "in_full": self._in_full,
        }
        return {**counts, **{f"snapshot.{name}": value for name, value in self._snapshot.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        numbers = {name: int(value) for name, value in state.items() if not name.startswith("snapshot.")}
        self._climbed, self._strikes = numbers.get("climbed", 0), numbers.get("strikes", 0)
        self._calm, self._raises = numbers.get("calm", 0), numbers.get("raises", 0)
        self._lowered, self._in_full = numbers.get("lowered", 0), numbers.get("in_full", 0)
        self._snapshot = _part(state, "snapshot.")


def _norm(params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
    """The norm of the gradient, so that a step is left out where it is not finite."""
    return get_total_norm([value.grad for value in params if value.grad is not None])
