"""Soup: keep the mean of the best evaluations' weights instead of the single best.

Idea: weights of one run that score well lie in one valley, and their mean often scores better than
each. The greedy soup tries the candidates from the best down and keeps one only if the validation part
agrees, so that it is never worse there than the best of them.

Formula, with candidates w_1, ..., w_k in order of their scores v(w_i) on the validation part:

* uniform: s = (w_1 + ... + w_k) / k
* greedy: S = {w_1}; for i = 2, ..., k: S = S + {w_i} if v(mean(S + {w_i})) >= v(mean(S)); s = mean(S)

Paper: Wortsman et al. 2022 (2203.05482), section 2, recipe 1; there the candidates are runs with
different settings, here the evaluations of one run, as in checkpoint averaging.

When it helps: many evaluations of near-equal score; it leaves the schedule as it is.
When not: no validation part; one so small that its best scores are luck.

Suggested values: k from 3 to 10, with an evaluation at least at the end of every epoch. k = 1 keeps the
best evaluation.

Cost: 1 pass; k copies of the weights, and for greedy up to k further evaluations at the end.

Clashes: another average; no validation part.

The score is the task's main metric: accuracy, or macro F1 for multilabel tasks. Where scores are equal
the earlier evaluation goes first. Tied weights are one parameter and are averaged once.

NOTE[DIFF]: during the run evaluations score the weights themselves, since those are the candidates. A
model with BatchNorm gets statistics over the training rows for every mean that is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from etude.config.fields import SearchRange, setting
from etude.core.phases import AVERAGE, OBSERVE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.averaging import (
    Weights,
    copied,
    lent,
    mean_of,
    statistics_for,
    under_prefix,
    weights_of,
    with_prefix,
)


class SoupConfig(TechniqueConfig):
    """Settings of the soup."""

    name: Literal["soup"] = "soup"
    k: int = setting(
        5, help="how many of the best evaluations are candidates", ge=1, search=SearchRange(2, 10)
    )
    method: Literal["greedy", "uniform"] = setting(
        "greedy", help="keep a candidate only if the validation part agrees, or keep all"
    )


class Candidate(NamedTuple):
    """The weights of one evaluation."""

    score: float
    step: int
    weights: Weights


def greedy_soup(
    ingredients: Sequence[Mapping[str, Tensor]], score: Callable[[Mapping[str, Tensor]], float]
) -> list[int]:
    """Return the positions of the ingredients that the greedy soup keeps.

    Args:
        ingredients: sets of weights, best first.
        score: scores a set of weights, higher being better.

    Raises:
        ValueError: there are no ingredients.

    The best weights are at 4; with 3 and 4 the mean is nearer, and 1 would take it away again:

    >>> import torch
    >>> ingredients = [{"w": torch.tensor(w)} for w in (3.0, 1.0, 5.5)]
    >>> greedy_soup(ingredients, lambda weights: -abs(4.0 - float(weights["w"])))
    [0, 2]
    """
    if not ingredients:
        raise ValueError("there are no ingredients and a soup needs at least one")
    kept = [0]
    best = score(ingredients[0]) if len(ingredients) > 1 else 0.0
    for i in range(1, len(ingredients)):
        tried = score(mean_of([ingredients[j] for j in [*kept, i]]))
        if tried >= best:
            kept, best = [*kept, i], tried
    return kept


class Soup(Technique[SoupConfig]):
    """Collects the best evaluations' weights and cooks them at the end."""

    Config = SoupConfig
    facts = Facts(
        family="averaging",
        phase=AVERAGE,
        paper="Wortsman et al. 2022, arXiv 2203.05482",
        needs_validation=True,
    )

    def __init__(self, config: SoupConfig) -> None:
        super().__init__(config)
        self._candidates: list[Candidate] = []
        self._soup: Weights = {}
        self._statistics: Weights = {}

    def attach(self, plan: Plan) -> None:
        plan.add(AVERAGE, self)
        plan.add(OBSERVE, self)

    def update(self, model: nn.Module, moment: Moment) -> None:
        """Steps do not matter, evaluations do."""

    def lend(self, model: nn.Module) -> AbstractContextManager[None]:
        """Put the soup into the model once it is cooked; the raw weights come back on leaving."""
        return lent(model, {**self._soup, **self._statistics})

    def settle(self, run: Any) -> bool:
        """Cook the soup from the candidates."""
        if self._soup or not self._candidates:
            return False
        metric = run.plan.context.task.main_metric

        def score(weights: Mapping[str, Tensor]) -> float:
            with lent(run.backbone, {**weights, **statistics_for(run, weights)}):
                return float(run.scores()[metric])

        ingredients = [candidate.weights for candidate in self._candidates]
        greedy = self.config.method == "greedy"
        kept = greedy_soup(ingredients, score) if greedy else list(range(len(ingredients)))
        self._soup = mean_of([ingredients[i] for i in kept])
        self._statistics = statistics_for(run, self._soup)
        run.log({"soup": {"steps": [self._candidates[i].step for i in kept], "of": len(ingredients)}})
        self._candidates = []
        return True

    def on_start(self, run: Any) -> None:
        """There is nothing to collect yet."""

    def on_step(self, run: Any) -> None:
        """Steps do not matter, evaluations do."""

    def on_epoch(self, run: Any) -> None:
        """Epochs do not matter, evaluations do."""

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Keep the weights if they are among the k best; the soup's own evaluation is none of them."""
        if self._soup:
            return
        candidate = Candidate(float(scores[run.plan.context.task.main_metric]), run.step, {})
        ranked = sorted([*self._candidates, candidate], key=lambda c: (-c.score, c.step))
        self._candidates = [
            c._replace(weights=copied(weights_of(run.backbone))) if c is candidate else c
            for c in ranked[: self.config.k]
        ]

    def on_end(self, run: Any) -> None:
        """The soup is cooked already."""

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        state: dict[str, Tensor | int | float | str] = {}
        for i, candidate in enumerate(self._candidates):
            state |= {f"score.{i}": candidate.score, f"step.{i}": candidate.step}
            state |= with_prefix(f"weights.{i}.", candidate.weights)
        return {
            **state,
            **with_prefix("soup.", self._soup),
            **with_prefix("statistics.", self._statistics),
        }

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        n = sum(name.startswith("score.") for name in state)
        self._candidates = [
            Candidate(
                float(state[f"score.{i}"]), int(state[f"step.{i}"]), under_prefix(f"weights.{i}.", state)
            )
            for i in range(n)
        ]
        self._soup = under_prefix("soup.", state)
        self._statistics = under_prefix("statistics.", state)
