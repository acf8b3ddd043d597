"""The schedules against torch's and transformers', step by step: the largest difference in float64.

Each of ours is asked for every step of a run as the engine asks it, through a plan with its warm-up.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
from torch.optim import SGD
from torch.optim import lr_scheduler as theirs

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.technique import Context
from etude.techniques import technique_class
from etude.techniques.schedules.one_cycle import cosine_cycle, half_cosines
from etude.techniques.schedules.plateau import Count, PlateauConfig, count_on
from etude.testing.tiny import tiny_backbone, tiny_task

Techniques = dict[str, dict[str, Any]]
N_STEPS = 120
TASK = tiny_task("multiclass")


def our_rates(techniques: Techniques, n_steps: int = N_STEPS) -> list[float]:
    """Return the factor of the learning rate at each step of a run of 12 epochs."""
    context = Context(
        TASK, tiny_backbone("table", TASK), torch.ones(3).numpy(), n_steps, 1, n_steps // 12, n_steps, 0,
        _no_teacher, epoch_steps=(n_steps // 12,) * 12,
    )  # fmt: skip
    plan = Plan(context)
    for name, settings in techniques.items():
        technique = technique_class(name)
        plan.attach(technique(technique.Config(name=name, **settings)))
    rates = Rates(plan, n_steps)
    return [rates.factor(step) for step in range(n_steps)]


def their_rates(make: Callable[[SGD], Any], n_steps: int = N_STEPS, lr: float = 1.0) -> list[float]:
    """Return the learning rate of each step under one of torch's schedulers."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls a deprecated form of torch's own
        scheduler, rates = make(optimizer), []
        for _ in range(n_steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    return rates


def apart(ours: list[float], others: list[float]) -> float:
    """Return the largest absolute difference."""
    return max(abs(a - b) for a, b in zip(ours, others, strict=True))


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference and largest difference."""
    yield from _against_torch()
    yield from _against_transformers()
    yield "one_cycle", "torch CyclicLR, one triangle (source 000's linear halves)", apart(
        our_rates({"one_cycle": {"shape": "linear_halves"}}),
        their_rates(lambda o: theirs.CyclicLR(o, 1 / 25, 1.0, 60, cycle_momentum=False)),
    )  # fmt: skip
    yield "one_cycle", "torch OneCycleLR, learning rate and momentum", _one_cycle_difference()
    yield "plateau", "torch ReduceLROnPlateau, 20 random histories", _plateau_difference()


def _against_torch() -> Iterator[tuple[str, str, float]]:
    def warmup_then(make: Callable[[SGD], Any]) -> Callable[[SGD], Any]:
        def both(optimizer: SGD) -> Any:
            rise = theirs.LinearLR(optimizer, 1e-3, 1.0, 20)
            return theirs.SequentialLR(optimizer, [rise, make(optimizer)], [20])

        return both

    twenty = {"duration": "20st", "start": 1e-3}
    cases: list[tuple[str, str, Techniques, Callable[[SGD], Any]]] = [
        ("step_decay", "torch StepLR, stepped each step",
         {"step_decay": {"every": "30st", "gamma": 0.5}}, lambda o: theirs.StepLR(o, 30, 0.5)),
        ("multi_step", "torch MultiStepLR", {"multi_step": {"milestones": ["3ep", "0.75dur"], "gamma": 0.1}},
         lambda o: theirs.MultiStepLR(o, [30, 90], 0.1)),
        ("linear", "torch LinearLR", {"linear": {}}, lambda o: theirs.LinearLR(o, 1.0, 0.0, N_STEPS)),
        ("cosine", "torch CosineAnnealingLR", {"cosine": {"final": 0.1}},
         lambda o: theirs.CosineAnnealingLR(o, N_STEPS, 0.1)),
        ("warmup", "torch LinearLR, then CosineAnnealingLR", {"warmup": twenty, "cosine": {}},
         warmup_then(lambda o: theirs.CosineAnnealingLR(o, N_STEPS - 20))),
        ("polynomial", "torch PolynomialLR", {"polynomial": {"power": 0.9}},
         lambda o: theirs.PolynomialLR(o, N_STEPS, 0.9)),
        ("cosine_restarts", "torch CosineAnnealingWarmRestarts, T_mult 2",
         {"cosine_restarts": {"first": "17st", "growth": 2.0, "final": 0.1}},
         lambda o: theirs.CosineAnnealingWarmRestarts(o, 17, 2, 0.1)),
        ("flat_cosine", "torch ConstantLR, then CosineAnnealingLR", {"flat_cosine": {"final": 0.0}},
         lambda o: theirs.SequentialLR(
             o, [theirs.ConstantLR(o, 1.0), theirs.CosineAnnealingLR(o, 30)], [90])),
    ]  # fmt: skip
    for name, reference, techniques, make in cases:
        yield name, reference, apart(our_rates(techniques), their_rates(make))
    for mode, settings in (("triangular", {}), ("triangular2", {}), ("exp_range", {"gamma": 0.99})):
        ours = our_rates({"triangular": {"cycle": "40st", "low": 0.2, "mode": mode, **settings}})
        others = their_rates(
            lambda o, m=mode, s=settings: theirs.CyclicLR(o, 0.2, 1.0, 20, mode=m, cycle_momentum=False, **s)
        )
        yield "triangular", f"torch CyclicLR, {mode}", apart(ours, others)


def _against_transformers() -> Iterator[tuple[str, str, float]]:
    rise = {"duration": "20st"}
    cases: list[tuple[str, str, Techniques, Callable[[SGD], Any]]] = [
        ("linear", "transformers linear, with its warm-up", {"warmup": rise, "linear": {}},
         lambda o: transformers.get_linear_schedule_with_warmup(o, 20, N_STEPS)),
        ("polynomial", "transformers polynomial, with its warm-up",
         {"warmup": rise, "polynomial": {"power": 2.0, "final": 0.01}},
         lambda o: transformers.get_polynomial_decay_schedule_with_warmup(o, 20, N_STEPS, 0.01, 2.0)),
        ("inverse_sqrt", "transformers inverse_sqrt, with its warm-up",
         {"warmup": rise, "inverse_sqrt": {"timescale": "20st"}},
         lambda o: transformers.get_inverse_sqrt_schedule(o, 20)),
        ("cosine_restarts", "transformers cosine_with_restarts, 4 cycles after its warm-up",
         {"warmup": rise, "cosine_restarts": {"first": "0.25dur"}},
         lambda o: transformers.get_cosine_with_hard_restarts_schedule_with_warmup(o, 20, N_STEPS, 4)),
    ]  # fmt: skip
    for name, reference, techniques, make in cases:
        yield name, reference, apart(our_rates(techniques), their_rates(make))
    for shape, word in (("linear", "linear"), ("cosine", "cosine"), ("sqrt", "1-sqrt")):
        settings = {"warmup": 0.25, "decay": 0.5, "shape": shape}
        others = their_rates(
            lambda o, w=word: transformers.get_wsd_schedule(o, 30, 60, N_STEPS, decay_type=w)
        )
        yield "warmup_stable_decay", f"transformers WSD, {word}", apart(
            our_rates({"warmup_stable_decay": settings}), others
        )  # fmt: skip


def _one_cycle_difference() -> float:
    """For torch the end is its last step, one before the run's end, and its rise is one step shorter."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler = theirs.OneCycleLR(optimizer, 1.0, N_STEPS, pct_start=0.25, final_div_factor=4000.0)
    rise, worst = (0.25 * N_STEPS - 1) / (N_STEPS - 1), 0.0
    for step in range(N_STEPS):
        progress, group = step / (N_STEPS - 1), optimizer.param_groups[0]
        lr = cosine_cycle(progress, rise, div=25.0, final_div=1e5)
        momentum = 0.95 - 0.1 * half_cosines(progress, rise)
        worst = max(worst, abs(group["lr"] - lr), abs(group["momentum"] - momentum))
        optimizer.step()
        if step < N_STEPS - 1:
            scheduler.step()
    return worst


def _plateau_difference() -> float:
    draw = random.Random(0)  # noqa: S311 - histories of losses, no secrets
    worst = 0.0
    for history in range(20):
        rises = history % 2 == 1
        settings = {
            "patience": draw.randrange(4),
            "factor": 0.5,
            "cooldown": draw.randrange(3),
            "threshold": 0.05,
        }
        config = PlateauConfig(**settings, final=0.01)
        optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler = theirs.ReduceLROnPlateau(
            optimizer, "max" if rises else "min", **settings, min_lr=0.01, eps=0.0
        )
        count = Count()
        for _ in range(80):
            value = draw.uniform(0.5, 1.5)
            count = count_on(count, value, config, rises=rises)
            scheduler.step(value)
            worst = max(worst, abs(count.scale - optimizer.param_groups[0]["lr"]))
    return worst


def _no_teacher(path: str) -> Any:
    raise FileNotFoundError(path)
