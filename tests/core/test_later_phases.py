"""Tuned rates, losses of the whole batch, second passes and averages that settle: exact, and in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from etude.core.backbone import Output, Transform
from etude.core.batch import Batch
from etude.core.phases import (
    AVERAGE,
    BATCH_LOSS,
    EXTRA_LOSS,
    FORWARD,
    MODEL,
    OBSERVE,
    ORDER,
    TUNE,
    ExtraLoss,
    ModelCall,
    Phase,
    View,
)
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques import technique_class
from etude.testing.harness import Recipe, Setup, make_engine, train, weights
from etude.testing.technique_suite import difference, split_difference
from etude.testing.tiny import tiny_examples, tiny_task


class ProbeConfig(TechniqueConfig):
    """Settings of the probe: there are none."""

    name: Literal["probe"] = "probe"


def technique(*contributions: tuple[Phase[Any], Any]) -> Any:
    def attach(self: Any, plan: Plan) -> None:
        for phase, contribution in contributions:
            plan.add(phase, contribution)

    facts = Facts(family="tests", phase=contributions[0][0], paper="", changes_inputs=True)
    return type("Probe", (Technique,), {"Config": ProbeConfig, "facts": facts, "attach": attach})


def spread(features: Tensor, batch: Batch, moment: Moment) -> Tensor:
    """A number that no sum over micro-batches gives: all rows are compared with all others."""
    same = batch.targets @ batch.targets.T
    return 0.3 * ((features @ features.T).tanh() * (1 - 2 * same)).mean()


def test_a_loss_of_the_whole_batch_is_the_same_in_micro_batches() -> None:
    recipe: Recipe = {technique((BATCH_LOSS, spread)): {}}
    assert split_difference(recipe, Setup()) <= 1e-9
    assert difference(train(recipe, Setup()), train({}, Setup())) > 1e-4


def constant(features: Tensor, batch: Batch, moment: Moment) -> Tensor:
    return features.sum() * 0.0 + 5.0


def nothing(run: Any) -> None:
    """Look on."""


def test_the_logged_loss_holds_the_batch_losses_once() -> None:
    recipe: Recipe = {technique((BATCH_LOSS, constant)): {}}
    for micro in (8, 2):
        losses = []
        for chosen in ({}, recipe):
            engine = make_engine(chosen, Setup(max_steps=3, micro_batch_size=micro, double=True))
            records: list[Mapping[str, Any]] = []
            engine.attach_folder(log=records.append, checkpoints=None)
            engine.fit()
            losses.append(next(r["train"]["loss"] for r in records if "train" in r))
        assert losses[1] - losses[0] == pytest.approx(5.0, abs=1e-6)


def test_weights_of_examples_and_batch_losses_share_the_look_ahead() -> None:
    recipe: Recipe = {technique((BATCH_LOSS, spread)): {}, technique_class("hard_examples"): {}}
    assert split_difference(recipe, Setup()) <= 1e-9


def test_tuned_numbers_reach_the_optimizer_after_the_schedule() -> None:
    seen: list[tuple[float, float]] = []

    def tune(groups: Sequence[dict[str, Any]], moment: Moment) -> None:
        for group in groups:
            seen.append((group["lr"], group["base_lr"]))
            group["lr"] = 0.0

    recipe: Recipe = {technique((TUNE, tune)): {}, technique_class("linear"): {}}
    setup = Setup()
    before = weights(make_engine(recipe, setup))
    seen.clear()
    after = train(recipe, setup)
    assert difference({k: v for k, v in after.items() if "kept" not in k},
                      {k: v for k, v in before.items() if "kept" not in k}) == 0  # fmt: skip
    factors = [lr / base for lr, base in seen]
    assert factors == pytest.approx([1 - i / 6 for i in range(6)], abs=1e-9)


class Twice:
    """Calls the model twice, and says how often it was called."""

    def __init__(self, shift: float) -> None:
        self.calls, self.shift = 0, shift

    def __call__(self, call: ModelCall, batch: Batch, moment: Moment) -> Output:
        self.calls += 2
        first, second = call(batch), call(batch)
        return Output(first.logits, first.features, again=replace(second, logits=second.logits + self.shift))


def test_a_second_pass_counts_half() -> None:
    """Twice the same pass is one pass; where dropout differs, so does the result."""
    one = technique((FORWARD, Twice(0.0)))
    assert difference(train({one: {}}, Setup(double=True)), train({}, Setup(double=True))) <= 1e-12
    assert difference(train({one: {}}, Setup(dropout=0.2)), train({}, Setup(dropout=0.2))) > 1e-5


def test_logits_in_float64_give_a_loss_in_float64() -> None:
    seen: list[torch.dtype] = []

    def widen(call: ModelCall, batch: Batch, moment: Moment) -> Output:
        output = call(batch)
        return replace(output, logits=output.logits.double())

    def look(output: Output, batch: Batch, moment: Moment) -> Tensor:
        seen.append(output.logits.dtype)
        return output.logits * 0.0

    sgd = {technique_class("sgd"): {"lr": 0.1}}
    found = train({technique((FORWARD, widen), (EXTRA_LOSS, ExtraLoss(look, 1.0))): {}, **sgd}, Setup())
    assert set(seen) == {torch.float64}
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert 0 < difference(found, train(sgd, Setup())) < 1e-5


def test_hidden_layers_are_kept_on_demand() -> None:
    seen: list[Output] = []

    def keep(backbone: Any) -> Any:
        backbone.keep_hidden = True
        return backbone

    def look(call: ModelCall, batch: Batch, moment: Moment) -> Output:
        seen.append(call(batch))
        return seen[-1]

    train({technique((MODEL, keep), (FORWARD, look)): {}}, Setup(max_steps=1))
    (output,) = seen
    assert [tuple(layer.shape[::2]) for layer in output.hidden] == [(8, 8), (8, 8)]
    seen.clear()
    train({technique((FORWARD, look)): {}}, Setup(max_steps=1))
    assert seen[0].hidden == ()


class LastOfPool(nn.Module):
    """Pools by the first token of the last of the layers that it is given."""

    def __init__(self, *, all_layers: bool) -> None:
        super().__init__()
        self.all_layers, self.n_given = all_layers, 0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        self.n_given = len(layers)
        return layers[-1][:, 0] * self.scale


@pytest.mark.parametrize("all_layers", [True, False])
def test_a_pooler_trains_with_the_rates_of_the_head(all_layers: bool) -> None:
    pooler = LastOfPool(all_layers=all_layers)

    def put(backbone: Any) -> Any:
        backbone.put_pooler(pooler)
        return backbone

    engine = make_engine({technique((MODEL, put)): {}, technique_class("head_lr"): {"factor": 10.0}}, Setup())
    rates = {id(p): group["base_lr"] for group in engine.optimizer.param_groups for p in group["params"]}
    assert rates[id(pooler.scale)] == pytest.approx(0.1)
    assert engine.backbone.gives_all_layers is all_layers
    engine.fit()
    assert pooler.scale.item() != 1.0
    assert pooler.n_given == 2  # the tiny transformer always gives both of its layers


def test_the_order_sees_targets_and_row_numbers() -> None:
    seen: list[View] = []

    def order(view: View, batch_size: int, moment: Moment) -> Any:
        seen.append(view)
        return view.rows.argsort()[::-1].copy()

    train({technique((ORDER, order)): {}}, Setup(epochs=1))
    assert sorted(seen[0].rows) == list(range(24))
    assert tuple(seen[0].targets.shape) == (24, 3)


class Settled:
    """An average that becomes ready at the end only."""

    def __init__(self, *, changes: bool) -> None:
        self.changes, self.events, self.modes = changes, list[str](), list[bool]()

    def update(self, model: nn.Module, moment: Moment) -> None:
        self.events.append("update")

    @contextmanager
    def lend(self, model: nn.Module) -> Iterator[None]:
        self.events.append("lend")
        yield

    def settle(self, run: Any) -> bool:
        self.events.append("settle")
        handle = run.backbone.register_forward_hook(lambda module, *_: self.modes.append(module.training))
        run.show_training_rows()
        handle.remove()
        return self.changes


@pytest.mark.parametrize("changes", [True, False])
def test_an_average_settles_once_and_is_scored_again_if_it_changed(changes: bool) -> None:
    average, scored = Settled(changes=changes), list[int]()

    class Onlooking:
        def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
            scored.append(run.step)

        def __getattr__(self, name: str) -> Callable[[Any], None]:
            return nothing

    engine = make_engine(
        {technique((AVERAGE, average), (OBSERVE, Onlooking())): {}},
        Setup(),
        validation=tiny_examples("text", tiny_task("multiclass"), n=8, seed=1),
        score=lambda logits, _: {"loss": float(logits.sum())},
    )
    engine.fit()
    assert average.events.count("settle") == 1
    assert average.events.index("settle") > max(i for i, e in enumerate(average.events) if e == "update")
    assert average.modes == [True]
    assert scored == ([6, 6] if changes else [6])


def test_skipped_steps_are_counted_in_a_row() -> None:
    seen: list[int] = []

    def spoil(call: ModelCall, batch: Batch, moment: Moment, transform: Transform | None = None) -> Output:
        output = call(batch)
        return replace(output, logits=output.logits * float("nan")) if len(seen) in (1, 2) else output

    class Onlooking:
        def on_step(self, run: Any) -> None:
            seen.append(run.skipped)

        def __getattr__(self, name: str) -> Callable[[Any], None]:
            return nothing

    train({technique((FORWARD, spoil), (OBSERVE, Onlooking())): {}}, Setup())
    assert seen == [0, 1, 2, 0, 0, 0]
