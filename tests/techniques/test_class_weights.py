"""Class weights: every named strategy by hand, scikit-learn's balanced, and what is refused."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight
from tiny_contexts import make_context

from etude.config.explain import validated
from etude.core.batch import Batch
from etude.core.phases import WEIGH_CLASS
from etude.core.plan import Plan, build_plan
from etude.core.task import make_task
from etude.errors import ConfigError
from etude.techniques.losses.cross_entropy import CrossEntropy, CrossEntropyConfig
from etude.techniques.sampling.oversample import Oversample, OversampleConfig
from etude.techniques.sampling.undersample import Undersample, UndersampleConfig
from etude.techniques.sampling.weighted_sampling import WeightedSampling, WeightedSamplingConfig
from etude.techniques.weights.class_weights import (
    ClassWeights,
    ClassWeightsConfig,
    class_weights,
    describe,
)

COUNTS = np.array([10, 40, 50])


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("inverse", [1 / 10, 1 / 40, 1 / 50]),
        ("inverse_sqrt", [10**-0.5, 40**-0.5, 50**-0.5]),
        ("max_normalized", [1.0, 0.5, (10 / 50) ** 0.5]),
        ("smoothed", [101 / 11, 101 / 41, 101 / 51]),
        ("balanced", [100 / 30, 100 / 120, 100 / 150]),
        ("pos_weight", [90 / 10, 60 / 40, 50 / 50]),
        ("effective_number", [0.1 / (1 - 0.9**10), 0.1 / (1 - 0.9**40), 0.1 / (1 - 0.9**50)]),
    ],
)
def test_strategy(strategy: str, expected: list[float]) -> None:
    assert class_weights(COUNTS, 100, strategy, beta=0.9) == pytest.approx(expected, rel=1e-12)


def test_balanced_equals_scikit_learn() -> None:
    labels = np.repeat([0, 1, 2], COUNTS)
    theirs = compute_class_weight("balanced", classes=np.array([0, 1, 2]), y=labels)
    assert class_weights(COUNTS, 100, "balanced") == pytest.approx(theirs, rel=1e-12)


def test_effective_number_runs_from_equal_to_inverse() -> None:
    assert class_weights(COUNTS, 100, "effective_number", beta=0.0) == pytest.approx([1, 1, 1])
    nearly = class_weights(COUNTS, 100, "effective_number", beta=1 - 1e-9)
    assert nearly == pytest.approx(class_weights(COUNTS, 100, "inverse"), rel=1e-5)


def _weights(technique: ClassWeights, context) -> torch.Tensor:
    plan = Plan(context)
    plan.attach(technique)
    weigh = plan.one(WEIGH_CLASS)
    assert weigh is not None
    ones = torch.ones(1, 3, dtype=torch.float64)
    return weigh(ones, Batch({}, ones, torch.ones(1), torch.arange(1)))[0]


def test_normalized_weights_sum_to_the_number_of_classes() -> None:
    weights = _weights(ClassWeights(ClassWeightsConfig(strategy="inverse", normalize=True)), make_context())
    assert weights.tolist() == pytest.approx([0.3 / 0.145, 0.075 / 0.145, 0.06 / 0.145])
    assert weights.sum().item() == pytest.approx(3.0)


def test_weights_reach_the_terms_in_the_order_of_the_labels() -> None:
    assert _weights(ClassWeights(ClassWeightsConfig(weights=[0.5, 0.0, 2.0])), make_context()).tolist() == [
        0.5, 0.0, 2.0,
    ]  # fmt: skip


def test_weights_by_label_leave_the_others_at_one() -> None:
    technique = ClassWeights(ClassWeightsConfig(weights={"c": 0.1, "b": 0.0}))
    assert _weights(technique, make_context()).tolist() == [1.0, 0.0, 0.1]


def test_none_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(ClassWeights(ClassWeightsConfig(strategy="none")))
    assert plan.entries() == []


def test_nine_weights_for_ten_classes_are_one_clear_error() -> None:
    """An example of a well-known repository gives nine weights for the ten digits."""
    context = replace(make_context(), task=make_task("multiclass", list("0123456789")))
    technique = ClassWeights(ClassWeightsConfig(weights=[0.1, 0, 1, 1, 1, 1, 1, 1, 1]))
    with pytest.raises(
        ConfigError,
        match=r"^class_weights.weights has 9 numbers and the task has 10 classes; give one for each class in "
        "the order of the labels, or a table by label$",
    ):
        _weights(technique, context)


def test_an_unknown_label_is_named_with_the_closest() -> None:
    context = replace(make_context("binary"), task=make_task("binary", ["ham", "spam"]))
    technique = ClassWeights(ClassWeightsConfig(weights={"spamm": 2.0}))
    with pytest.raises(
        ConfigError,
        match=r"names the label 'spamm', which does not occur in the training part; did you mean 'spam'\?",
    ):
        _weights(technique, context)


@pytest.mark.parametrize(
    "settings", [{"strategy": "weights"}, {"strategy": "inverse", "weights": [1.0, 1.0]}]
)
def test_weights_stand_alone(settings) -> None:
    with pytest.raises(ValidationError, match="without a strategy, or a strategy without weights"):
        ClassWeightsConfig(**settings)


@pytest.mark.parametrize("weights", [[0.1, 0, 1], {"a": 2.0}])
def test_weights_survive_being_written_and_read(weights) -> None:
    config = ClassWeightsConfig(weights=weights)
    assert config.strategy == "weights"
    assert ClassWeightsConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, -1], "class_weights.weights: the weight of 2 is -1 and must be 0 or more"),
        ({"b": -0.5}, "class_weights.weights: the weight of 'b' is -0.5 and must be 0 or more"),
        ("b", "class_weights.weights is 'b' and must be a list of numbers or a table"),
        (
            [1, float("inf")],
            "class_weights.weights has inf as item 2 and must be a list of numbers or a table",
        ),
    ],
    ids=str,
)
def test_what_is_no_weight_is_named(weights, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        validated(ClassWeightsConfig, {"weights": weights}, "class_weights")


def test_a_class_without_rows_is_named() -> None:
    context = make_context(class_counts=np.array([50, 0, 50]))
    for strategy in ("inverse", "max_normalized", "effective_number"):
        with pytest.raises(ConfigError, match=rf"class 'b' has no training row.*{strategy}.*\"smoothed\""):
            _weights(ClassWeights(ClassWeightsConfig(strategy=strategy)), context)
    smoothed = _weights(ClassWeights(ClassWeightsConfig(strategy="smoothed")), context)
    assert smoothed.tolist() == pytest.approx([101 / 51, 101.0, 101 / 51])


def test_all_zero_is_refused() -> None:
    technique = ClassWeights(ClassWeightsConfig(weights=[0.0, 0.0, 0.0]))
    with pytest.raises(ConfigError, match="every weight is 0"):
        _weights(technique, make_context())


def test_pos_weight_belongs_to_bce_on_multilabel_tasks() -> None:
    technique = ClassWeights(ClassWeightsConfig(strategy="pos_weight"))
    with pytest.raises(ConfigError, match=r"use the loss bce with pos_weight = \"balanced\""):
        _weights(technique, make_context("multilabel"))


@pytest.mark.parametrize(
    "other",
    [
        WeightedSampling(WeightedSamplingConfig()),
        Oversample(OversampleConfig()),
        Undersample(UndersampleConfig(ratio=1.0)),
    ],
    ids=lambda technique: technique.key(),
)
def test_correcting_the_same_imbalance_twice_is_a_warning(other) -> None:
    losses = CrossEntropy(CrossEntropyConfig())
    plan = build_plan([losses, ClassWeights(ClassWeightsConfig()), other], make_context())
    (warning,) = plan.warnings
    assert {"class_weights", other.key()} <= set(re.findall(r"\w+", warning.split(":")[0]))
    assert "rare ones may count twice over" in warning
    assert build_plan([losses, other], make_context()).warnings == []
    off = ClassWeights(ClassWeightsConfig(strategy="none"))
    assert build_plan([losses, off, other], make_context()).warnings == []


def test_the_plan_notes_the_weight_of_each_class() -> None:
    plan = Plan(make_context())
    plan.attach(ClassWeights(ClassWeightsConfig(weights={"b": 0.5})))
    table = (
        "class_weights:\n weight    rows  class\n  1.000      10  a\n  1.000      50  c\n  0.500      40  b"
    )
    assert plan.notes == [table]


def test_of_many_classes_the_table_shows_both_ends() -> None:
    labels = [f"label {c}" for c in range(1000)]
    lines = describe(
        labels, np.arange(1000) + 1, class_weights(np.arange(1000) + 1, 5, "inverse")
    ).splitlines()
    assert len(lines) == 22
    assert lines[11] == "... and 980 classes between"
    assert lines[1].endswith("label 0")
    assert lines[-1].endswith("label 999")


def test_references_agree() -> None:
    rows = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/parity/weights.py"))["rows"]()
    found = list(rows)
    assert {name for name, _, _ in found} == {"class_weights", "recency_weights"}
    assert max(apart for _, _, apart in found) <= 1e-10
