"""R-Drop: both divergences against torch, two passes that differ, and the whole loss by hand."""

import runpy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import EXTRA_LOSS, FORWARD
from etude.core.rng import key
from etude.techniques import technique_class
from etude.techniques.regularisation.r_drop import doubled, halves, softmax_disagreement
from etude.testing.harness import Setup, make_engine, train
from etude.testing.technique_suite import difference
from etude.testing.tiny import tiny_examples, tiny_task

SETUP = Setup(dropout=0.3)


def engine_of(settings: Mapping[str, Any], setup: Setup = SETUP) -> Any:
    return make_engine({technique_class("r_drop"): settings}, setup)


def first_loss(engine: Any) -> float:
    """The loss of the first step alone."""
    lines: list[float] = []
    engine.attach_folder(log=lambda record: lines.append(record["train"]["loss"]), checkpoints=None)
    engine.settings = replace(engine.settings, log_every=1, epochs=1)
    engine.fit()
    return lines[0]


def test_the_same_as_the_published_example() -> None:
    """``compute_kl_loss`` of the authors' example: the mean of two ``F.kl_div``."""
    p, q = (torch.randn(9, 5, generator=torch.Generator().manual_seed(i)).double() for i in (0, 1))
    p_loss = kl_div(p.log_softmax(-1), q.softmax(-1), reduction="none")
    q_loss = kl_div(q.log_softmax(-1), p.softmax(-1), reduction="none")
    expected = (p_loss.sum(1) + q_loss.sum(1)) / 2
    assert (softmax_disagreement(p, q).sum(1) - expected).abs().max() < 1e-12


def test_the_whole_loss_by_hand() -> None:
    """½ (CE¹ + CE²) + α R, with the two passes computed here from the same key."""
    setup = replace(SETUP, n_rows=8, batch_size=8, epochs=1)
    engine, task = engine_of({"alpha": 0.7}, setup), tiny_task("multiclass")
    examples = tiny_examples("text", task, 8)
    _, batches = engine._feed.epoch(engine.moment())
    rows = batches[0]
    inputs, targets = examples.inputs(rows), examples.targets[torch.from_numpy(rows)]
    engine.backbone.train().key_randomness(key(0, "forward", 0, 0))
    logits = engine.backbone({name: torch.cat([v, v]) for name, v in inputs.items()}).logits
    one, other = logits.detach()[:8], logits.detach()[8:]
    assert not torch.allclose(one, other), "the passes have masks of their own"
    apart = softmax_disagreement(one, other).sum(1).mean()
    expected = (cross_entropy(one, targets) + cross_entropy(other, targets)) / 2 + 0.7 * apart
    assert first_loss(engine) == pytest.approx(float(expected), abs=1e-6)


def test_without_dropout_it_changes_nothing() -> None:
    setup = Setup(dropout=0.0, double=True)
    found = train({technique_class("r_drop"): {"alpha": 5.0}}, setup)
    assert difference(found, train({}, setup)) < 1e-9


def test_multilabel_compares_each_labels_own_coin() -> None:
    engine = engine_of({}, replace(SETUP, kind="multilabel"))
    extra = engine.plan.many(EXTRA_LOSS)[0]
    z = torch.tensor([[2.0, 0.0]])
    output = Output(z, z, again=Output(torch.zeros(1, 2), z))
    empty = Batch({}, z, torch.ones(1), torch.arange(1))
    # ½ (σ(2) - ½) · 2 / 2 labels, and nothing for the second one.
    assert extra.terms(output, empty, engine.moment()).tolist() == [[pytest.approx(0.1904, abs=1e-4), 0.0]]


def test_doubling_and_halving() -> None:
    batch = Batch({"x": torch.arange(6).view(3, 2)}, torch.eye(3), torch.ones(3), torch.arange(3))
    twice = doubled(batch)
    assert len(twice) == 6
    assert twice.inputs["x"][3:].equal(batch.inputs["x"])
    assert twice.targets[:3].equal(batch.targets)
    hidden: tuple[Tensor, ...] = (torch.arange(6.0),)
    output = halves(Output(torch.arange(6.0)[:, None], torch.zeros(6, 2), hidden))
    assert output.logits.flatten().tolist() == [0, 1, 2]
    assert output.hidden[0].tolist() == [0, 1, 2]
    assert output.again is not None
    assert output.again.logits.flatten().tolist() == [3, 4, 5]


def test_it_stands_around_all_other_forward_techniques() -> None:
    recipe = {technique_class(name): {} for name in ("neftune", "hidden_mixup", "r_drop")}
    entries = make_engine(recipe, SETUP).plan.entries()
    assert [e.technique for e in entries if e.phase is FORWARD] == ["r_drop", "hidden_mixup", "neftune"]


def test_parity() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "parity" / "regularisation.py"
    rows = list(runpy.run_path(str(path))["rows"]())
    assert {name for name, *_ in rows} == {
        "r_drop", "neftune", "multi_sample_dropout", "stochastic_depth"
    }  # fmt: skip
    assert max(apart for *_, apart in rows) <= 1e-10, rows
