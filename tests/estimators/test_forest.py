"""Trees as arrays predict what scikit-learn predicts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from estimators.made_tables import features, sample
from etude.estimators.categories import CategoryNumbers
from etude.estimators.forest import Forest


def design_of(rows, numbers: CategoryNumbers) -> np.ndarray:
    return np.concatenate([numbers.apply(rows.categories), rows.numbers], axis=1)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("by_category", [True, False])
def test_a_forest_equals_the_decision_function(n_classes: int, by_category: bool) -> None:
    train = sample(600, n_classes)
    numbers = CategoryNumbers.fit(train.features.categories, 255)
    mask = np.array([True, True, False, False, False]) if by_category else None
    model = HistGradientBoostingClassifier(max_iter=15, categorical_features=mask, early_stopping=False)
    model.fit(design_of(train.features, numbers), train.targets.argmax(axis=1))
    fresh = design_of(features(3000, 1, n_codes=9), numbers)
    assert np.isnan(fresh).any()
    found = Forest.of_sklearn(model, 15).raw(fresh)
    wanted = model.decision_function(fresh).reshape(len(fresh), -1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


def test_the_first_rounds_are_those_of_a_shorter_fit() -> None:
    train = sample(400, 3)
    design, classes = train.features.numbers, train.targets.argmax(axis=1)
    long, short = (
        HistGradientBoostingClassifier(max_iter=rounds, early_stopping=False).fit(design, classes)
        for rounds in (12, 5)
    )
    wanted = short.decision_function(design)
    np.testing.assert_allclose(Forest.of_sklearn(long, 5).raw(design), wanted, rtol=0, atol=1e-10)


def test_the_arrays_of_a_forest_make_it_again() -> None:
    train = sample(300, 2)
    model = HistGradientBoostingClassifier(max_iter=5).fit(train.features.numbers, train.targets[:, 1])
    forest = Forest.of_sklearn(model, 5)
    again = Forest.from_arrays(forest.arrays())
    assert np.array_equal(forest.raw(train.features.numbers), again.raw(train.features.numbers))


def test_rare_categories_share_a_number_and_unknown_ones_are_missing() -> None:
    codes = np.repeat(np.arange(1, 401), np.arange(401, 1, -1))[:, None]
    found = CategoryNumbers.fit(codes, 255)
    numbers = found.apply(np.array([[1], [254], [255], [400], [0], [401]]))[:, 0]
    assert numbers[:4].tolist() == [0.0, 253.0, 254.0, 254.0]
    assert np.isnan(numbers[4:]).all()
    assert found.n_merged == 146
