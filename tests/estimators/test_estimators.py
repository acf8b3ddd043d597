"""What every estimator keeps to, whatever library fits it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from estimators.made_tables import features, sample, take
from etude.config.estimators import LinearBackboneConfig, TreesBackboneConfig
from etude.config.explain import validated
from etude.errors import ConfigError, DataError, RunError
from etude.estimators import Estimator, Features, Sample, load_estimator, make_estimator
from etude.estimators.saving import save_estimator

LIBRARIES = ("sklearn", "lightgbm", "xgboost", "catboost")
TASKS = (("binary", 2), ("multiclass", 4), ("multilabel", 3))


def trees(library: str = "sklearn", **settings: Any) -> TreesBackboneConfig:
    return TreesBackboneConfig(library=library, **{"n_rounds": 12, "min_rows_in_leaf": 5, **settings})


CONFIGS = [*(trees(library) for library in LIBRARIES), LinearBackboneConfig()]
IDS = [*LIBRARIES, "linear"]


def fitted(config: Any, task: str, n_classes: int, train: Sample, *others: Any, **more: Any) -> Estimator:
    found = make_estimator(config, task, n_classes)
    found.fit(train, *others, **more)
    return found


@pytest.mark.parametrize(("task", "n_classes"), TASKS)
@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_it_learns_and_a_saved_one_predicts_the_same_bits(
    config: Any, task: str, n_classes: int, tmp_path: Path
) -> None:
    train = sample(500, n_classes, multilabel=task == "multilabel")
    held_out = sample(300, n_classes, 1, multilabel=task == "multilabel")
    model = fitted(config, task, n_classes, train, held_out)
    logits = model.logits(held_out.features)
    assert logits.dtype == np.float32
    assert logits.shape == held_out.targets.shape
    if task == "multilabel":
        assert ((logits > 0) == held_out.targets).mean() > 0.8
    else:
        assert (logits.argmax(axis=1) == held_out.targets.argmax(axis=1)).mean() > 0.55
    assert model.curves.train[-1] < model.curves.train[0]
    assert len(model.curves.train) == len(model.curves.validation) == len(model.curves.at)
    assert sum(part.sum() for part in model.importances()) == pytest.approx(1.0)
    assert not model.notes
    save_estimator(model, tmp_path)
    again = load_estimator(tmp_path)
    fresh = features(200, 2, n_codes=9)
    assert np.array_equal(again.logits(fresh), model.logits(fresh))
    assert again.curves == model.curves
    for one, two in zip(again.importances(), model.importances(), strict=True):
        np.testing.assert_allclose(one, two)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_the_same_seed_gives_the_same_model(config: Any) -> None:
    train, fresh = sample(300, 3), features(100, 1)
    one, two = (fitted(config, "multiclass", 3, train, seed=5).logits(fresh) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_rows_of_weight_0_are_absent(config: Any) -> None:
    train, kept = sample(400, 3), np.arange(0, 400, 2)
    weights = np.zeros(400)
    weights[kept] = 1.0
    # A category that only absent rows have is unknown.
    train.features.categories[1, 0] = 77
    fresh = features(50, 1)
    fresh.categories[0, 0] = 77
    one = fitted(config, "multiclass", 3, replace(train, weights=weights)).logits(fresh)
    assert np.array_equal(one, fitted(config, "multiclass", 3, take(train, kept)).logits(fresh))


@pytest.mark.parametrize("penalty", ["l2", "none"])
def test_a_weight_of_2_is_a_row_that_stands_there_twice(penalty: str) -> None:
    train = sample(200, 3)
    times = np.random.default_rng(0).integers(0, 4, 200)
    config = LinearBackboneConfig(penalty=penalty, tolerance=1e-9)
    weighted = fitted(config, "multiclass", 3, replace(train, weights=times.astype(float)))
    repeated = fitted(config, "multiclass", 3, take(train, np.repeat(np.arange(200), times)))
    fresh = features(100, 1)
    np.testing.assert_allclose(weighted.logits(fresh), repeated.logits(fresh), atol=2e-4)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_class_weights_multiply_the_weights_of_the_rows(config: Any) -> None:
    train, fresh = sample(300, 3), features(100, 1)
    by_class = np.array([1.0, 3.0, 0.5])
    by_row = replace(train, weights=train.targets @ by_class)
    one = fitted(config, "multiclass", 3, train, class_weights=by_class).logits(fresh)
    if isinstance(config, LinearBackboneConfig):  # its scale follows the rows' weights
        train.features.numbers[:] = np.nan
        by_row = replace(train, weights=train.targets @ by_class)
        one = fitted(config, "multiclass", 3, train, class_weights=by_class).logits(fresh)
    assert np.array_equal(one, fitted(config, "multiclass", 3, by_row).logits(fresh))


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_soft_targets_count_by_their_shares(config: Any) -> None:
    train, fresh = sample(300, 2), features(100, 1)
    soft = replace(train, targets=0.7 * train.targets + 0.15)
    plain, smooth = (fitted(config, "binary", 2, rows).logits(fresh) for rows in (train, soft))
    margins = np.abs(smooth[:, 1] - smooth[:, 0]).mean(), np.abs(plain[:, 1] - plain[:, 0]).mean()
    assert margins[0] < margins[1]
    several = Sample(soft.features, soft.targets[:, 1:], soft.weights)
    either = fitted(config, "multilabel", 1, several).logits(fresh)[:, 0]
    np.testing.assert_allclose(either, smooth[:, 1] - smooth[:, 0], atol=0.05)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_classes_and_labels_without_rows_are_never_predicted(config: Any) -> None:
    train, held_out = sample(200, 4), sample(200, 4, 1)
    kept = train.targets.argmax(axis=1) % 2 == 0
    logits = fitted(config, "multiclass", 4, take(train, np.flatnonzero(kept)), held_out).logits(
        train.features
    )
    assert (logits[:, [1, 3]].max(axis=1) <= logits[:, [0, 2]].min(axis=1) - 10).all()
    alone = take(train, np.flatnonzero(train.targets[:, 2] == 1))
    logits = fitted(config, "multiclass", 4, alone, held_out).logits(train.features)
    assert (logits.argmax(axis=1) == 2).all()
    several = sample(200, 3, multilabel=True)
    several.targets[:, 0], several.targets[:, 1] = 0.0, 1.0
    logits = fitted(config, "multilabel", 3, several).logits(train.features)
    assert (logits[:, 0] < -10).all()
    assert (logits[:, 1] > 10).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_validation_part_stops_the_fit_and_the_best_round_is_kept(library: str) -> None:
    train, held_out = sample(150, 2), sample(400, 2, 1)
    config = trees(library, n_rounds=300, learning_rate=0.5, early_stopping=10)
    model = fitted(config, "binary", 2, train, held_out)
    curves = model.curves
    assert len(curves.train) < 300
    assert curves.kept == curves.at[int(np.argmin(curves.validation))]
    assert curves.validation[-1] > min(curves.validation)
    logits = model.logits(held_out.features)
    loss = log_loss(held_out.targets[:, 1], 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])))
    assert loss == pytest.approx(min(curves.validation), abs=1e-5)
    whole = fitted(trees(library, n_rounds=40, early_stopping=False), "binary", 2, train, held_out)
    assert whole.curves.kept == 40
    assert len(whole.curves.validation) == len(whole.curves.at)


def test_trees_of_scikit_learn_are_its_own() -> None:
    train, held_out = sample(400, 3), sample(200, 3, 1)
    no_categories = np.zeros((400, 0), dtype=np.int64)
    rows = replace(train, features=Features(train.features.numbers, no_categories))
    model = fitted(trees(settings={"max_bins": 63}), "multiclass", 3, rows)
    wanted = HistGradientBoostingClassifier(
        max_iter=12, min_samples_leaf=5, max_bins=63, early_stopping=False
    ).fit(rows.features.numbers, train.targets.argmax(axis=1))
    fresh = Features(held_out.features.numbers, no_categories[:200])
    np.testing.assert_allclose(model.logits(fresh), wanted.decision_function(fresh.numbers), atol=1e-6)


def test_logistic_regression_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    numbers = draw.normal(5.0, 3.0, (300, 4))
    classes = (numbers @ draw.normal(size=(4, 3)) + draw.gumbel(size=(300, 3))).argmax(axis=1)
    rows = Sample(Features(numbers, np.zeros((300, 0), dtype=np.int64)), np.eye(3)[classes], np.ones(300))
    model = fitted(LinearBackboneConfig(strength=0.3, tolerance=1e-9), "multiclass", 3, rows)
    scaled = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    wanted = LogisticRegression(C=0.3, tol=1e-9, max_iter=1000).fit(scaled, classes)
    found = model.logits(rows.features)
    np.testing.assert_allclose(found, wanted.decision_function(scaled), atol=1e-4)
    loss = log_loss(classes, wanted.predict_proba(scaled))
    assert model.curves.train[-1] == pytest.approx(loss, abs=1e-5)


def test_one_vs_rest_gives_sigmoids_divided_by_their_sum() -> None:
    train = sample(300, 3)
    whole = fitted(LinearBackboneConfig(classes="one_vs_rest"), "multiclass", 3, train)
    logits = whole.logits(train.features).astype(float)
    each = fitted(LinearBackboneConfig(), "multilabel", 3, train).logits(train.features)
    sigmoids = 1 / (1 + np.exp(-each.astype(float)))
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, sigmoids / sigmoids.sum(axis=1, keepdims=True), atol=1e-3)


def test_l1_sets_weights_to_zero() -> None:
    train = sample(200, 2)
    config = LinearBackboneConfig(penalty="l1", strength=0.05)
    importances = np.concatenate(fitted(config, "binary", 2, train).importances())
    assert (importances == 0).any()
    assert (importances > 0).any()


def test_the_strength_is_chosen_on_the_validation_part() -> None:
    train, held_out = sample(60, 2), sample(500, 2, 1)
    model = fitted(LinearBackboneConfig(strength="auto"), "binary", 2, train, held_out)
    curves = model.curves
    assert curves.unit == "C"
    assert curves.kept == curves.at[int(np.argmin(curves.validation))]
    assert f"strength {curves.kept:g} has the least loss" in model.notes[0]
    with pytest.raises(ConfigError, match="needs a validation part to choose by"):
        fitted(LinearBackboneConfig(strength="auto"), "binary", 2, train)


def test_a_fit_that_was_not_done_says_so() -> None:
    model = fitted(LinearBackboneConfig(max_iter=2), "multiclass", 3, sample(200, 3))
    assert "was not done after 2 iterations; raise backbone.max_iter" in model.notes[0]


def test_many_categories_are_put_together_and_told() -> None:
    train = sample(3000, 2, n_codes=399)
    model = fitted(trees(), "binary", 2, train)
    assert "rare categories count as one" in model.notes[0]
    unlimited = fitted(trees("lightgbm"), "binary", 2, train)
    assert not unlimited.notes


@pytest.mark.parametrize("library", LIBRARIES)
def test_settings_of_the_library_go_through_and_unknown_ones_are_refused(library: str) -> None:
    train = sample(200, 2)
    known = {"sklearn": "max_depth", "lightgbm": "max_depth", "xgboost": "max_depth", "catboost": "depth"}
    flat = fitted(trees(library, settings={known[library]: 1}), "binary", 2, train).logits(train.features)
    deep = fitted(trees(library), "binary", 2, train).logits(train.features)
    assert not np.array_equal(flat, deep)
    with pytest.raises(ConfigError, match="max_deptth"):
        fitted(trees(library, settings={"max_deptth": 3}), "binary", 2, train)
    name = "max_bins" if library == "sklearn" else "max_bin"
    with pytest.raises(ConfigError, match=r"backbone\.settings has max_bin"):
        fitted(trees(library, settings={name: -3}), "binary", 2, train)


def test_what_has_a_name_here_is_refused_under_another() -> None:
    with pytest.raises(ConfigError, match=r"settings.num_leaves is backbone.max_leaves here"):
        validated(TreesBackboneConfig, {"kind": "trees", "settings": {"num_leaves": 3}}, "backbone")
    with pytest.raises(ConfigError, match="strength is 0"):
        validated(LinearBackboneConfig, {"kind": "linear", "strength": 0}, "backbone")


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_rows_without_weight_or_label_are_no_data(config: Any) -> None:
    train = sample(50, 2)
    with pytest.raises(DataError, match="no row to fit has both a label and a weight"):
        fitted(config, "binary", 2, replace(train, weights=np.zeros(50)))


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_no_column_at_all_is_refused(config: Any) -> None:
    train = sample(50, 2)
    empty = Features(np.zeros((50, 0)), np.zeros((50, 0), dtype=np.int64))
    with pytest.raises(ConfigError, match="column"):
        fitted(config, "binary", 2, replace(train, features=empty))


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_damaged_model_is_told(config: Any, tmp_path: Path) -> None:
    save_estimator(fitted(config, "binary", 2, sample(100, 2)), tmp_path)
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(RunError, match=r"cannot be read|is not as it was written"):
            load_estimator(tmp_path)
        file.write_bytes(content)
