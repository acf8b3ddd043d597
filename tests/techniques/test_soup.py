"""Soups: greedy against trying by hand, the k best of a real run, what is scored, and refusals."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from etude.core.engine import Engine
from etude.core.technique import Context
from etude.core.timetable import build_timed_plan
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.techniques.averaging.soup import Soup, greedy_soup
from etude.testing.harness import Setup, StopAt, make, make_engine, weights
from etude.testing.technique_suite import difference
from etude.testing.tiny import tiny_examples, tiny_task

SETUP = Setup(epochs=4)


class Judge:
    """Gives scores from a list, one after the other, and keeps the weights that it saw."""

    def __init__(self, scores: list[float]) -> None:
        self.scores, self.seen = scores, list[dict[str, Tensor]]()
        self.engine: Engine | None = None

    def __call__(self, logits: Tensor, _: Any) -> dict[str, float]:
        assert self.engine is not None
        self.seen.append({n: v.detach().clone() for n, v in self.engine.backbone.named_parameters()})
        return {"accuracy": self.scores[len(self.seen) - 1]}


def judged(
    scores: list[float], every: int = 2, setup: Setup = SETUP, **settings: Any
) -> tuple[Engine, Judge]:
    judge = Judge(scores)
    engine = make_engine({Soup: settings}, setup, score=judge)
    engine.settings = replace(engine.settings, evaluate_every=every)
    judge.engine = engine
    return engine, judge


def mean(several: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([w[name] for w in several]).mean(dim=0) for name in several[0]}


def kept(engine: Engine) -> dict[str, Tensor]:
    found = weights(engine)
    return {name: found[f"kept.{name}"] for name, _ in engine.backbone.named_parameters()}


def by_hand(ingredients: list[dict[str, Tensor]], score: Any) -> list[int]:
    """The rule as the sources write it: a running mean of the best so far and the next one."""
    soup, members = ingredients[0], [0]
    for i, candidate in enumerate(ingredients[1:], start=1):
        k = len(members)
        trial = {name: k / (k + 1) * soup[name] + candidate[name] / (k + 1) for name in soup}
        if score(trial) >= score(soup):
            soup, members = trial, [*members, i]
    return members


@pytest.mark.parametrize("seed", range(8))
def test_greedy_equals_the_running_mean_of_the_sources(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    target = torch.randn(6, generator=rng, dtype=torch.float64)

    def score(weights: Mapping[str, Tensor]) -> float:
        return -float((weights["w"] - target).square().sum())

    points = [{"w": target + torch.randn(6, generator=rng, dtype=torch.float64) * (1 + i)} for i in range(6)]
    points.sort(key=score, reverse=True)
    found = greedy_soup(points, score)
    assert found == by_hand(points, score)
    assert score(mean([points[i] for i in found])) >= score(points[0])


def test_uniform_is_the_mean_of_the_k_best() -> None:
    engine, judge = judged([0.1, 0.5, 0.3, 0.5, 0.9, 0.2, 0.0], k=3, method="uniform")
    lines: list[Mapping[str, Any]] = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.fit()
    # Evaluations after steps 2, 4, 6, 8, 10 and 12, then the soup's; of two equal ones the earlier is first.
    assert len(judge.seen) == 7
    expected = mean([judge.seen[4], judge.seen[1], judge.seen[3]])
    assert difference(kept(engine), expected) < 1e-6
    assert difference(judge.seen[6], kept(engine)) == 0
    assert [line["soup"] for line in lines if "soup" in line] == [{"steps": [10, 4, 8], "of": 3}]


def test_greedy_asks_the_validation_part() -> None:
    # Six evaluations; then the best alone, with the second best (kept), with the third as well (not kept).
    engine, judge = judged([0.1, 0.5, 0.3, 0.4, 0.9, 0.2, 0.9, 0.91, 0.7, 0.91], k=3)
    engine.fit()
    expected = mean([judge.seen[4], judge.seen[1]])
    assert difference(kept(engine), expected) < 1e-6
    assert difference(judge.seen[8], mean([judge.seen[i] for i in (4, 1, 3)])) < 1e-6
    assert difference(judge.seen[9], kept(engine)) == 0
    assert len(judge.seen) == 10


def test_k_one_keeps_the_best_evaluation() -> None:
    engine, judge = judged([0.1, 0.5, 0.3, 0.4, 0.2, 0.2, 0.5], k=1)
    engine.fit()
    assert difference(kept(engine), judge.seen[1]) == 0
    assert len(judge.seen) == 7
    assert difference(judge.seen[1], judge.seen[5]) > 0


def test_multilabel_runs_are_ranked_by_macro_f1() -> None:
    setup = Setup(kind="multilabel", epochs=2)
    scores = iter([0.2, 0.8, 0.1, 0.3])
    engine = make_engine(
        {Soup: {"k": 1}}, setup, score=lambda *_: {"f1_macro": next(scores), "accuracy": 1.0}
    )
    engine.settings = replace(engine.settings, evaluate_every=2)
    lines: list[Mapping[str, Any]] = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.fit()
    assert [line["soup"]["steps"] for line in lines if "soup" in line] == [[4]]


def test_a_model_with_batch_norm_is_scored_with_statistics_that_fit() -> None:
    rows, task = tiny_examples("image", tiny_task("multiclass"), n=12, seed=3), tiny_task("multiclass")
    logits: list[Tensor] = []

    def score(found: Tensor, _: Any) -> dict[str, float]:
        logits.append(found.clone())
        return {"accuracy": float((found.argmax(1) == rows.targets.argmax(1)).float().mean())}

    engine = make_engine(
        {Soup: {"k": 3, "method": "uniform"}}, Setup(modality="image", epochs=4), validation=rows, score=score
    )
    engine.settings = replace(engine.settings, evaluate_every=2)
    engine.fit()
    assert task.n_classes == 3
    with engine.final_weights(), torch.no_grad():
        engine.backbone.eval()
        expected = engine.backbone(rows.inputs(np.arange(12))).logits
    torch.testing.assert_close(logits[-1], expected)
    found = weights(engine)
    assert not torch.equal(found["kept.stem.1.running_mean"], found["stem.1.running_mean"])


@pytest.mark.parametrize("step", [3, 4, 11])
def test_a_stop_changes_nothing(step: int, tmp_path: Any) -> None:
    from etude.core.checkpoint import checkpoints, read_checkpoint
    from etude.errors import Interrupted

    def engine(*more: Any) -> Engine:
        made = make_engine({Soup: {"k": 2}, **dict(more)}, Setup(epochs=4, dropout=0.2))
        made.settings = replace(made.settings, evaluate_every=2)
        return made

    whole, first, second = engine(), engine((StopAt, {"step": step})), engine()
    whole.fit()
    first.attach_folder(log=None, checkpoints=tmp_path)
    with pytest.raises(Interrupted):
        first.fit()
    second.load_state(read_checkpoint(checkpoints(tmp_path)[-1]))
    second.fit()
    assert difference(weights(whole), weights(second)) == 0
    assert (
        difference(whole.plan.techniques["soup"].state_dict(), second.plan.techniques["soup"].state_dict())
        == 0
    )


def test_tied_weights_are_one_ingredient() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    network[1].weight = network[0].weight
    soup = make(Soup, {})
    assert isinstance(soup, Soup)
    soup.load_state_dict({"soup.0.weight": torch.ones(2, 2)})
    with soup.lend(network):
        assert network[1].weight is network[0].weight
        assert network[1].weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_without_a_validation_part_it_is_refused() -> None:
    context: Context = replace(make_engine({}, Setup()).plan.context, has_validation=False)
    techniques = [make(technique_class(name), {}) for name in ("adamw", "cross_entropy", "soup")]
    with pytest.raises(
        ConflictError, match=r"^soup needs a validation part and there is none; set data\.validation$"
    ):
        build_timed_plan(lambda: techniques, context, tiny_examples("text", context.task), None)


def test_nothing_to_cook_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no ingredients and a soup needs at least one"):
        greedy_soup([], lambda _: 0.0)
