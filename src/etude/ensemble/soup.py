"""Soups across runs: the mean of several models' weights, one model that costs what one model costs.

Runs that begin with the same weights and differ in their settings often end in one valley, and the mean of
their weights scores better than each (Wortsman et al. 2022, 2203.05482). Runs that began elsewhere do not,
and are refused. The greedy soup tries models from the best down and keeps one only if held-out rows agree, so
that it is never worse there than the best of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etude.core.backbone import Backbone
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.predict import predict
from etude.data.load import Data, load_data
from etude.decision.calibration import Calibration
from etude.decision.postprocessor import Decision, cross_fit
from etude.ensemble.make import Made
from etude.ensemble.members import Member, open_members
from etude.errors import ConfigError, RunError
from etude.evaluation.metrics import score
from etude.evaluation.scored import Scored
from etude.kinds import kind_of, open_saved
from etude.runs.artefact import save_model, uncalibrated
from etude.runs.build import choose_precision, make_accelerator
from etude.runs.derived import config_for, write_results
from etude.runs.folder import RunFolder
from etude.techniques.averaging import lent, mean_of, weights_of
from etude.techniques.averaging.soup import greedy_soup


@dataclass(frozen=True)
class Ingredient:
    """A model whose weights may go into a soup.

    Attributes:
        member: its run.
        weights: its parameters by name, each of several tied ones once, without the calibration that was
            folded into its head.
    """

    member: Member
    weights: Mapping[str, Tensor]


def tied(model: nn.Module) -> list[tuple[str, ...]]:
    """Return the names under which one parameter stands more than once.

    >>> first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    >>> second.weight = first.weight
    >>> tied(nn.Sequential(first, second))
    [('0.weight', '1.weight')]
    """
    found: dict[int, list[str]] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        found.setdefault(id(value), []).append(name)
    return sorted(tuple(names) for names in found.values() if len(names) > 1)


def make_soup(
    paths: Sequence[Path], output: Path, *, recipe: str = "greedy", reporter: Reporter | None = None
) -> Made:
    """Cook a soup of finished runs in a new folder.

    Args:
        paths: the runs, which began with the same weights and held the same rows out.
        output: the soup's folder.
        recipe: ``greedy``, or ``uniform`` to take all of them.
        reporter: who tells of progress.

    Raises:
        ConfigError: the recipe is unknown, or there are fewer than two runs.
        RunError: the runs began with other weights, are of another shape, or held other rows out.
    """
    if recipe not in ("greedy", "uniform"):
        raise ConfigError(f"the recipe is {recipe!r} and must be greedy or uniform")
    RunFolder.refuse_used(output)
    reporter = reporter or Reporter()
    members = open_members(paths)
    refuse_other_beginnings(members)
    config = config_for(members[0].config, output)
    data = load_data(config, kind_of(config).loader(), reporter, None)
    validation = _held_out(members, data)
    model, ingredients = _open(members)
    accelerator = make_accelerator(choose_precision(config.train.precision))
    metric = members[0].task.main_metric

    def scored(weights: Mapping[str, Tensor]) -> float:
        with lent(model, weights):
            return _score(members[0], _logits(model, validation, accelerator), validation, metric)

    alone = [scored(ingredient.weights) for ingredient in ingredients]
    order = sorted(range(len(alone)), key=lambda i: -alone[i])
    best_first = [ingredients[i].weights for i in order]
    kept = greedy_soup(best_first, scored) if recipe == "greedy" else list(range(len(order)))
    chosen = {order[i] for i in kept}
    soup = mean_of([best_first[i] for i in kept])
    told = [
        {"run": str(m.path), "weight": (i in chosen) / len(chosen), "score": alone[i]}
        for i, m in enumerate(members)
    ]
    with lent(model, soup):
        logits = _logits(model, validation, accelerator)
        return _save(model, members, data, validation, logits, config, told, recipe, reporter)


def refuse_other_beginnings(members: Sequence[Member]) -> None:
    """Refuse models that did not begin with the same weights, or of which that is not known.

    Raises:
        RunError: names the two.
    """
    first = members[0]
    for member in members:
        if member.metadata["input"].get("kind") == "ensemble":
            raise RunError(
                f"{member.path} is an ensemble, whose weights have no mean; cook its members instead"
            )
        if not member.metadata.get("initial_weights"):
            raise RunError(
                f"{member.path} does not say which weights it began with; train it again with this version"
            )
        if member.metadata["initial_weights"] != first.metadata["initial_weights"]:
            raise RunError(
                f"{first.path} and {member.path} began with other weights, so that the mean of theirs is no "
                "model; train them from one backbone with one seed, or make an ensemble of them"
            )


def _held_out(members: Sequence[Member], data: Data) -> Examples:
    if data.validation is None:
        raise RunError(
            "a soup is scored on a validation part and there is none; train with data.validation set"
        )
    rows = data.rows["validation"]
    for member in members:
        scored = member.validation
        if scored is None or list(scored.texts) != data.texts["validation"]:
            raise RunError(
                f"{member.path} did not hold out the {len(rows)} rows that {members[0].path} did, and may "
                "have trained on them; a soup needs runs with the same data settings and seed"
            )
    return data.validation


def _open(members: Sequence[Member]) -> tuple[Backbone, list[Ingredient]]:
    """Open the models, the first of which will hold the soup."""
    whole: Backbone | None = None
    ties: list[tuple[str, ...]] = []
    found: list[Ingredient] = []
    for member in members:
        model = open_saved(member.model, member.metadata).backbone
        inside = member.metadata.get("calibration_in_head")
        if inside is not None:
            uncalibrated(model, member.task, Calibration.from_json(inside))
        weights = {name: value.clone() for name, value in weights_of(model).items()}
        if not weights:
            raise RunError(
                f"{member.path} has no weights of which there is a mean, being no network; make an "
                "ensemble instead"
            )
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
            raise RunError(
                f"{member.path} has BatchNorm, whose statistics belong to its own weights and not to a mean; "
                "make an ensemble instead"
            )
        if whole is None:
            whole, ties = model, tied(model)
        if tied(model) != ties:
            raise RunError(
                f"{member.path} ties other weights together than {members[0].path}, so that some would "
                "count twice; cook runs of one architecture"
            )
        _refuse_other_shapes(found[0] if found else None, member, weights)
        found.append(Ingredient(member, weights))
    if whole is None:
        raise ValueError("there are no members")
    return whole, found


def _refuse_other_shapes(first: Ingredient | None, member: Member, weights: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    wanted = shapes if first is None else {name: tuple(v.shape) for name, v in first.weights.items()}
    differs = sorted(set(shapes.items()) ^ set(wanted.items()))
    if first is not None and differs:
        raise RunError(
            f"{member.path} and {first.member.path} differ in shape at {differs[0][0]}; a soup needs runs of "
            "one architecture"
        )


def _logits(model: Backbone, examples: Examples, accelerator: Any) -> Any:
    prepared = accelerator.prepare_model(model, evaluation_mode=True)
    return predict(prepared, examples, accelerator).numpy()


def _score(member: Member, logits: Any, examples: Examples, metric: str) -> float:
    probabilities, decisions = Decision.plain(member.task).apply(logits)
    return float(score(member.task, probabilities, examples.targets.numpy(), decisions)[metric])


def _save(
    model: Backbone,
    members: Sequence[Member],
    data: Data,
    validation: Examples,
    logits: Any,
    config: Any,
    told: list[dict[str, Any]],
    recipe: str,
    reporter: Reporter,
) -> Made:
    """Write the model with its own decision, then what it is worth."""
    first, task = members[0], members[0].task
    targets = validation.targets.numpy()
    decision = Decision.fit(task, config.decision, logits, targets, seed=config.seed)
    applied = cross_fit(task, config.decision, logits, targets, seed=config.seed)
    left_out = ("decision", "calibration_in_head")
    metadata = {name: value for name, value in first.metadata.items() if name not in left_out}
    soup = {"recipe": recipe, "of": told}
    folder = RunFolder.create(config)
    with torch.no_grad():
        save_model(model, folder.model, {**metadata, "soup": soup}, decision)
    parts = {
        "validation": Scored(
            task, logits, *applied, targets, data.texts["validation"], data.rows["validation"]
        )
    }
    used = sum(one["weight"] > 0 for one in told)
    judgement = write_results(
        folder, config, decision, parts, {"soup": soup}, f"{recipe} soup of {used} models", reporter
    )
    return Made(
        folder=folder.path,
        method=f"{recipe} soup of {used}",
        members=told,
        scores=dict(judgement.metrics),
        intervals=judgement.intervals,
        metric=task.main_metric,
        notes=[],
    )
