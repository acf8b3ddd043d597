"""Recency weights against NumPy's geomspace, by row id whatever others leave out."""

import numpy as np
import pytest
import torch
from tiny_contexts import make_context

from etude.core.phases import DATA, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques.weights.recency_weights import RecencyWeights, RecencyWeightsConfig, recency_weights


def changed(view: View, **settings: float) -> View:
    plan = Plan(make_context())
    plan.attach(RecencyWeights(RecencyWeightsConfig(**settings)))
    (change,) = plan.many(DATA)
    return change(view, Moment(0, 0, 0, 10, 40))


def test_equals_geomspace() -> None:
    assert recency_weights(100, 0.001) == pytest.approx(np.geomspace(0.001, 1, 100), rel=1e-12)
    assert recency_weights(1, 0.5).tolist() == [1.0]


def test_multiplies_the_rows_own_weights_by_their_id() -> None:
    rows = np.array([99, 0, 33])
    view = View(rows, torch.eye(3), torch.tensor([1.0, 2.0, 3.0]), np.ones(3, dtype=np.int64))
    weights = changed(view).weights
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([1.0, 0.002, 3 * 0.001 ** (1 - 33 / 99)])
    assert view.weights.tolist() == [1.0, 2.0, 3.0]


def test_the_default_is_a_thousandth() -> None:
    view = View(np.arange(100), torch.ones(100, 3), torch.ones(100), np.ones(100, dtype=np.int64))
    weights = changed(view).weights.numpy()
    assert weights[[0, -1]].tolist() == pytest.approx([0.001, 1.0])
    assert np.diff(np.log(weights)) == pytest.approx(np.full(99, np.log(1000) / 99), abs=1e-5)


def test_one_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(RecencyWeights(RecencyWeightsConfig(oldest=1.0)))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"oldest is 0.0 and must lie in \(0, 1\]"):
        recency_weights(3, 0.0)
