"""Class weights: every named strategy by hand, scikit-learn's balanced, and what is refused."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight
from tiny_contexts import make_context

from etude.core.batch import Batch
from etude.core.phases import WEIGH_CLASS
from etude.core.plan import Plan, build_plan
from etude.errors import ConfigError, ConflictError
from etude.techniques.losses.cross_entropy import CrossEntropy, CrossEntropyConfig
from etude.techniques.sampling.weighted_sampling import WeightedSampling, WeightedSamplingConfig
from etude.techniques.weights.class_weights import (
    ClassWeights,
    ClassWeightsConfig,
    class_weights,
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


def test_values_reach_the_terms_in_the_order_of_the_labels() -> None:
    technique = ClassWeights(ClassWeightsConfig(strategy="values", values=[0.5, 0.0, 2.0]))
    assert _weights(technique, make_context()).tolist() == [0.5, 0.0, 2.0]


def test_none_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(ClassWeights(ClassWeightsConfig(strategy="none")))
    assert plan.entries() == []


def test_values_of_the_wrong_length_name_both_lengths() -> None:
    technique = ClassWeights(ClassWeightsConfig(strategy="values", values=[1.0, 2.0]))
    with pytest.raises(ConfigError, match="values has 2 numbers and the task has 3 classes"):
        _weights(technique, make_context())


@pytest.mark.parametrize("settings", [{"strategy": "values"}, {"strategy": "inverse", "values": [1.0, 1.0]}])
def test_values_and_their_strategy_need_each_other(settings) -> None:
    with pytest.raises(ValidationError, match='together with strategy = "values"'):
        ClassWeightsConfig(**settings)


def test_a_class_without_rows_is_named() -> None:
    context = make_context(class_counts=np.array([50, 0, 50]))
    for strategy in ("inverse", "max_normalized", "effective_number"):
        with pytest.raises(ConfigError, match=rf"class 'b' has no training row.*{strategy}.*\"smoothed\""):
            _weights(ClassWeights(ClassWeightsConfig(strategy=strategy)), context)
    smoothed = _weights(ClassWeights(ClassWeightsConfig(strategy="smoothed")), context)
    assert smoothed.tolist() == pytest.approx([101 / 51, 101.0, 101 / 51])


def test_all_zero_is_refused() -> None:
    technique = ClassWeights(ClassWeightsConfig(strategy="values", values=[0.0, 0.0, 0.0]))
    with pytest.raises(ConfigError, match="every weight is 0"):
        _weights(technique, make_context())


def test_pos_weight_belongs_to_bce_on_multilabel_tasks() -> None:
    technique = ClassWeights(ClassWeightsConfig(strategy="pos_weight"))
    with pytest.raises(ConfigError, match=r"use the loss bce with pos_weight = \"balanced\""):
        _weights(technique, make_context("multilabel"))


def test_clashes_with_weighted_sampling() -> None:
    techniques = [
        CrossEntropy(CrossEntropyConfig()),
        ClassWeights(ClassWeightsConfig()),
        WeightedSampling(WeightedSamplingConfig()),
    ]
    with pytest.raises(ConflictError, match="class_weights clashes with weighted_sampling: both correct"):
        build_plan(techniques, make_context())
