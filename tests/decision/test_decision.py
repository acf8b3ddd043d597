"""The decision as a whole: fitted, cross-fitted, saved, and on rows that are too few or broken."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.metrics import f1_score

from etude.config.decision import Calibration, DecisionConfig, Thresholds
from etude.core.rng import numpy_generator
from etude.core.task import Binary, Multiclass, Multilabel, Task
from etude.decision import Decision, check_decision, cross_fit
from etude.errors import ConfigError, DataError, RunError

MANY = Multilabel(["often", "rarely", "never"])
THREE = Multiclass(["a", "b", "c"])
TWO = Binary(["no", "yes"])
TASKS = [MANY, THREE, TWO]
Part = tuple[NDArray[np.float32], NDArray[np.float32]]


def part(task: Task, rows: int = 200, seed: int = 0) -> Part:
    """Logits of a model that is too shy of rare labels, with targets; one label never holds."""
    draw = numpy_generator(seed, "decision part", task.kind)
    logits = draw.normal(size=(rows, task.n_classes)) * 2.0
    if task is MANY:
        shift = np.array([0.0, 1.5, -np.inf])
        targets = draw.random(logits.shape) < 1.0 / (1.0 + np.exp(-(logits / 2.0 + shift)))
        logits[:, 1] -= 3.0
    else:
        targets = np.eye(task.n_classes)[(logits / 2.0 + draw.gumbel(size=logits.shape)).argmax(axis=1)]
    return logits.astype(np.float32), targets.astype(np.float32)


@pytest.mark.parametrize("task", TASKS)
def test_the_plain_decision_is_the_tasks_own(task: Task) -> None:
    logits, _ = part(task)
    probabilities, decisions = Decision.plain(task).apply(logits)
    theirs = task.probabilities(torch.from_numpy(logits)).numpy()
    assert np.array_equal(probabilities, theirs)
    assert np.array_equal(decisions, task.decide(theirs))


CONFIGS: list[tuple[Task, dict[str, Any]]] = [
    *[(task, {"calibration": c}) for task in TASKS for c in get_args(Calibration)],
    *[(task, {"thresholds": t}) for task in TASKS for t in get_args(Thresholds)[:5]],
    *[(task, {"thresholds": "cross_validated", "combine": "out_of_fold"}) for task in TASKS],
    *[(task, {"abstain": {"by": by}}) for task in TASKS for by in ("risk", "coverage")],
    (MANY, {"thresholds": "top_k", "k": 2}),
    (MANY, {"thresholds": "fixed", "threshold": 0.7, "at_least_one": True}),
    (MANY, {"thresholds": "cost", "costs": [[0, 1], [3, 0]]}),
    (MANY, {"thresholds": "per_label", "metric": "cost", "costs": [[0, 1], [3, 0]]}),
    (TWO, {"thresholds": "cost", "costs": [[0, 1], [3, 0]]}),
    (THREE, {"thresholds": "cost", "costs": [[0, 1, 9], [3, 0, 1], [1, 1, 0]]}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "settings"), CONFIGS)
def test_saved_and_read_it_decides_the_same(task: Task, settings: dict[str, Any]) -> None:
    fitted = Decision.fit(task, DecisionConfig(**settings), *part(task), seed=0)
    again = Decision.from_json(task, json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    logits, _ = part(task, seed=1)
    for ours, theirs in zip(fitted.apply(logits), again.apply(logits), strict=True):
        assert np.array_equal(ours, theirs)
    assert again.to_json() == fitted.to_json()
    assert again.describe() == fitted.describe()
    assert all(sentence.endswith(".") for sentence in fitted.describe())
    probabilities, decisions = fitted.apply(logits)
    if task is not MANY:
        assert (decisions.sum(axis=1) == (1 if fitted.abstention is None else decisions.any(axis=1))).all()
    assert (decisions.shape, probabilities.dtype) == (logits.shape, np.float32)
    one_by_one = np.concatenate([fitted.apply(row[None])[1] for row in logits[:5]])
    assert np.array_equal(one_by_one, decisions[:5])


def test_thresholds_that_are_fitted_help_on_other_rows() -> None:
    (logits, targets), (others, truth) = part(MANY, 1000), part(MANY, 1000, seed=1)
    fitted = Decision.fit(MANY, DecisionConfig(), logits, targets, seed=0)
    plain = f1_score(truth, Decision.plain(MANY).apply(others)[1], average="macro", zero_division=0)
    assert f1_score(truth, fitted.apply(others)[1], average="macro", zero_division=0) > plain + 0.05
    assert fitted.thresholds is not None
    assert any("without a positive held-out row, never took the global threshold" in n for n in fitted.notes)
    _, crossed = cross_fit(MANY, DecisionConfig(), logits, targets, seed=0)
    assert f1_score(targets, crossed, average="macro", zero_division=0) > plain + 0.05


@pytest.mark.parametrize("task", TASKS)
def test_cross_fitting_decides_each_row_by_the_other_folds(task: Task) -> None:
    logits, targets = part(task, rows=60)
    config = DecisionConfig(thresholds="per_label", calibration="temperature", folds=60)
    probabilities, decisions = cross_fit(task, config, logits, targets, seed=0)
    for row in (0, 17):  # with as many folds as rows each row is left out alone
        others = np.arange(60) != row
        left_out = Decision.fit(task, config, logits[others], targets[others], seed=0)
        p, d = left_out.apply(logits[row : row + 1])
        assert np.array_equal(p[0], probabilities[row])
        assert np.array_equal(d[0], decisions[row])


@pytest.mark.parametrize("task", TASKS)
def test_what_is_not_fitted_is_the_same_cross_fitted(task: Task) -> None:
    logits, targets = part(task)
    config = DecisionConfig(calibration="none", thresholds="fixed")
    plain = Decision.plain(task).apply(logits)
    for ours, theirs in zip(cross_fit(task, config, logits, targets, seed=0), plain, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("task", TASKS)
def test_auto_fits_nothing_on_too_few_rows_and_says_so(task: Task, rows: int) -> None:
    logits, targets = (matrix[:rows] for matrix in part(task))
    fitted = Decision.fit(task, DecisionConfig(), logits, targets, seed=0)
    others, _ = part(task, seed=1)
    assert np.array_equal(fitted.apply(others)[1], Decision.plain(task).apply(others)[1])
    assert fitted.notes[0] == f"{rows} held-out rows are too few to fit on: 'auto' calibrates from 50 on"
    assert cross_fit(task, DecisionConfig(), logits, targets, seed=0)[1].shape == logits.shape


@pytest.mark.parametrize(
    "settings",
    [{"calibration": "temperature"}, {"thresholds": "per_label"}, {"abstain": {"by": "risk"}}],
)
def test_what_is_asked_for_by_name_needs_rows(settings: dict[str, Any]) -> None:
    logits, targets = (matrix[:3] for matrix in part(MANY))
    with pytest.raises(
        DataError, match="is fitted on held-out rows and there are 3, at least 10 being needed"
    ):
        Decision.fit(MANY, DecisionConfig(**settings), logits, targets, seed=0)
    with pytest.raises(DataError, match=r"make data\.validation larger, or leave it to 'auto'"):
        cross_fit(MANY, DecisionConfig(**settings), logits, targets, seed=0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("settings", [{}, {"calibration": "isotonic", "thresholds": "cross_validated"}])
def test_degenerate_rows_are_decided(task: Task, settings: dict[str, Any]) -> None:
    logits, targets = part(task, rows=80)
    alike = np.zeros_like(logits)
    sure = np.where(targets > 0, 500.0, -500.0).astype(np.float32)
    lonely = np.zeros_like(targets)
    lonely[:, 0] = 1.0
    one = lonely.copy()  # the second label has a single row, which most folds lack
    one[0] = np.eye(task.n_classes)[1]
    for z, y in [(alike, targets), (sure, targets), (logits, lonely), (logits, one)]:
        fitted = Decision.fit(task, DecisionConfig(**settings), z, y, seed=0)
        p, d = fitted.apply(z)
        assert np.isfinite(p).all()
        assert np.isfinite(cross_fit(task, DecisionConfig(**settings), z, y, seed=0)[0]).all()
        if z is sure:
            assert np.array_equal(d, y > 0)
    nothing = Decision.fit(MANY, DecisionConfig(), logits[:, [0] * 3], np.zeros((80, 3), np.float32), seed=0)
    assert nothing.thresholds == (0.5, 0.5, 0.5)
    assert "no label has both positive and negative held-out rows" in nothing.notes[-1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    logits, targets = part(THREE)
    logits[7, 1] = value
    with pytest.raises(DataError, match=r"1 of 200 held-out rows have logits that are not finite, .* row 7;"):
        Decision.fit(THREE, DecisionConfig(), logits, targets, seed=0)
    with pytest.raises(
        DataError, match="1 of 200 rows have logits that are not finite, the first being row 7; the"
    ):
        Decision.plain(THREE).apply(logits)


def test_rows_out_of_scope_have_no_part_in_calibration() -> None:
    logits, targets = part(THREE)
    more, nothing = np.full((50, 3), 30.0, dtype=np.float32), np.zeros((50, 3), dtype=np.float32)
    config = DecisionConfig(calibration="vector", thresholds="per_label")
    alone = Decision.fit(THREE, config, logits, targets, seed=0)
    both = Decision.fit(
        THREE, config, np.concatenate([logits, more]), np.concatenate([targets, nothing]), seed=0
    )
    assert both.to_json() == alone.to_json()


def test_the_rules_by_hand() -> None:
    logits = np.log(np.array([[0.2, 0.7, 0.1], [0.6, 0.1, 0.3]], dtype=np.float32))
    logits = (logits - np.log1p(-np.exp(logits))).astype(np.float32)  # their sigmoids are these probabilities
    nothing = np.zeros((2, 3), dtype=np.float32)

    def decided(**settings: Any) -> list[list[str]]:
        config = DecisionConfig(calibration="none", **settings)
        return MANY.names(Decision.fit(MANY, config, logits, nothing, seed=0).apply(logits)[1])

    assert decided(thresholds="fixed", threshold=0.65) == [["rarely"], []]
    assert decided(thresholds="fixed", threshold=0.65, at_least_one=True) == [["rarely"], ["often"]]
    assert decided(thresholds="top_k", k=2) == [["often", "rarely"], ["often", "never"]]
    assert decided(thresholds="cost", costs=[[0, 1], [3, 0]]) == [["rarely"], ["often", "never"]]


def test_least_cost_by_hand() -> None:
    p = np.array([[0.5, 0.3, 0.2]], dtype=np.float32)
    costs = [[0, 1, 1], [1, 0, 1], [9, 1, 0]]  # missing a "c" by saying "a" is dear
    config = DecisionConfig(calibration="none", thresholds="cost", costs=costs)
    fitted = Decision.fit(THREE, config, np.log(p), np.eye(3, dtype=np.float32)[:1], seed=0)
    assert THREE.names(fitted.apply(np.log(p))[1]) == [["b"]]  # costs 2.1, 0.7 and 0.8


def test_the_two_old_forms_are_read() -> None:
    logits, _ = part(MANY)
    old = Decision.from_json(MANY, {"kind": "fixed", "threshold": 0.5})
    assert np.array_equal(old.apply(logits)[1], Decision.plain(MANY).apply(logits)[1])
    logits, _ = part(THREE)
    old = Decision.from_json(THREE, {"kind": "argmax"})
    assert np.array_equal(old.apply(logits)[1], Decision.plain(THREE).apply(logits)[1])


def test_a_later_format_is_refused() -> None:
    content = Decision.plain(THREE).to_json()
    with pytest.raises(RunError, match="of kind 'decision' and format 9; this version reads format 1"):
        Decision.from_json(THREE, {**content, "format": 9})
    with pytest.raises(
        RunError, match="has the rule 'argmin', which this version does not know; did you mean"
    ):
        Decision.from_json(THREE, {**content, "rule": {"rule": "argmin"}})
    with pytest.raises(RunError, match="is damaged or was made for other labels than these 3: ValueError"):
        Decision.from_json(THREE, {**content, "rule": {"rule": "offsets", "values": [0.1, 0.2]}})
    with pytest.raises(RunError, match="is damaged or was made for other labels than these 3: KeyError"):
        Decision.from_json(THREE, {"kind": "decision", "format": 1})


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        (THREE, {"thresholds": "top_k"}, "'top_k' and the task is multiclass, where each row"),
        (MANY, {"thresholds": "top_k", "k": 4}, r"decision\.k is 4 and there are 3 labels"),
        (THREE, {"thresholds": "fixed", "threshold": 0.7}, "threshold is 0.7 and the task is multiclass"),
        (THREE, {"thresholds": "cost", "costs": [[0, 1], [1, 0]]}, "is 2 x 2 and must be 3 x 3: a row"),
        (MANY, {"thresholds": "cost", "costs": [[0, 1]]}, r"is 1 x 2 and must be 2 x 2: \[\[TN"),
        (TWO, {"thresholds": "cost", "costs": [[1, 0], [0, 1]]}, "a wrong yes costs -1 and a wrong no"),
        (THREE, {"metric": "cost", "costs": [[0] * 3] * 3}, "use thresholds = 'cost'"),
    ],
)  # fmt: skip
def test_what_the_task_cannot_carry_is_refused(task: Task, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_decision(task, DecisionConfig(**settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metric": "roc_auc"}, "'roc_auc' is no metric that a threshold can maximise"),
        ({"thresholds": "cost"}, 'belongs to thresholds = "cost" or metric = "cost"; give both or none'),
        ({"threshold": 0.3}, 'threshold = 0.3 counts only with thresholds = "fixed"'),
        ({"k": 2}, 'k = 2 counts only with thresholds = "top_k"'),
        ({"combine": "out_of_fold"}, 'counts only with thresholds = "cross_validated"'),
    ],
)
def test_settings_without_an_effect_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DecisionConfig(**settings)
