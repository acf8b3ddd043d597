"""Baselines against scikit-learn's own pipelines and values by hand, and on parts that lack something."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from etude.core.task import Binary, Multiclass, Multilabel
from etude.errors import ConfigError
from etude.evaluation import baselines, trees
from etude.evaluation.baselines import BaselinePart, fit_baselines, rows_to_fit
from etude.evaluation.logistic import fit_logistic

ABC = Multiclass(["a", "b", "c"])
WORDS = ["red apple", "green apple", "blue sky", "grey sky", "old book", "new book"]
TEXTS = [f"{text} {ending}" for ending in ("here", "there", "now", "then") for text in WORDS]
CLASSES = np.tile([0, 0, 1, 1, 2, 2], 4)


def one_hot(classes: NDArray[Any], n_classes: int) -> NDArray[np.float32]:
    return np.eye(n_classes, dtype=np.float32)[classes]


def part(texts: list[str], targets: Any, **more: Any) -> BaselinePart:
    return BaselinePart(texts, np.asarray(targets, dtype=np.float32), **more)


def test_zero_rule_gives_shares_of_weighted_rows_in_scope() -> None:
    targets = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]
    train = part(["t"] * 4, targets, weights=np.array([2, 1, 1, 5], dtype=np.float32))
    found = fit_baselines(ABC, train, {"test": train}, only=["zero_rule"])["zero_rule"]
    assert found.probabilities["test"][3] == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)
    assert found.n_fit_rows == 4


def test_zero_rule_of_several_labels_gives_each_labels_share() -> None:
    train = part(["t"] * 4, [[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 1]])
    found = fit_baselines(Multilabel(["x", "y", "z"]), train, {"test": train}, only=["zero_rule"])
    probabilities = found["zero_rule"].probabilities["test"]
    assert probabilities[0] == pytest.approx([1.0, 0.0, 0.75], abs=1e-6)
    assert (probabilities == probabilities[0]).all()


@pytest.mark.parametrize("task", [ABC, Binary(["a", "b"])])
def test_tfidf_equals_scikit_learns_pipeline(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "CHEAP_CELLS", 0)
    keep = task.n_classes > CLASSES
    texts = [text for text, kept in zip(TEXTS, keep, strict=True) if kept]
    train = part(texts, one_hot(CLASSES[keep], task.n_classes))
    new = part(["a red sky", "book book apple"], np.zeros((2, task.n_classes)))
    found = fit_baselines(task, train, {"test": new}, only=["tfidf_logistic"])["tfidf_logistic"]
    pattern = r"(?u)\b\w+\b"
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern)
    # Two columns share the work of one, so that their penalty is half as strong.
    strength = baselines.TFIDF_STRENGTH * (2 if task.n_classes == 2 else 1)
    model = LogisticRegression(C=strength, tol=1e-8, max_iter=1000)
    model.fit(words.fit_transform(texts), CLASSES[keep])
    expected = model.predict_proba(words.transform(new.texts))
    assert found.probabilities["test"] == pytest.approx(expected, abs=5e-3)


def test_frozen_features_equal_one_scikit_learn_model_for_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "CHEAP_CELLS", 0)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 5)).astype(np.float32)
    targets = (features @ generator.normal(size=(5, 3)) + generator.normal(size=(60, 3)) > 0).astype(
        np.float32
    )
    weights = generator.uniform(0.5, 2.0, size=60).astype(np.float32)
    train = part(["t"] * 60, targets, weights=weights)
    found = fit_baselines(
        Multilabel(["x", "y", "z"]),
        train,
        {"test": train},
        features=lambda _, rows: features[rows],
        only=["frozen_logistic"],
    )["frozen_logistic"]
    standard = StandardScaler().fit_transform(features)
    for c in range(3):
        model = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000)
        model.fit(standard, targets[:, c], sample_weight=weights)
        expected = model.decision_function(standard)
        assert found.logits["test"][:, c] == pytest.approx(expected, abs=5e-3)


def test_labels_that_none_or_all_rows_have_keep_their_share() -> None:
    targets = np.array([[0, 1, i % 2] for i in range(len(TEXTS))], dtype=np.float32)
    train = part(TEXTS, targets)
    found = fit_baselines(Multilabel(["never", "always", "some"]), train, {"test": train})
    for baseline in found.values():
        decisions = baseline.probabilities["test"] >= 0.5
        assert not decisions[:, 0].any()
        assert decisions[:, 1].all()


def test_a_class_without_training_rows_is_never_likely() -> None:
    train = part(TEXTS, one_hot(np.where(CLASSES == 2, 0, CLASSES), 3))
    found = fit_baselines(ABC, train, {"test": part(TEXTS, one_hot(CLASSES, 3))})
    assert set(found) == {"zero_rule", "tfidf_logistic"}
    for baseline in found.values():
        assert baseline.probabilities["test"][:, 2].max() < 1e-6
        assert baseline.probabilities["test"].sum(axis=1) == pytest.approx(1.0)


def test_one_class_alone_and_rows_out_of_scope() -> None:
    train = part([*TEXTS, "out of scope"], [*one_hot(np.ones(len(TEXTS), int), 3), [0, 0, 0]])
    found = fit_baselines(ABC, train, {"test": train})
    assert (found["tfidf_logistic"].probabilities["test"].argmax(axis=1) == 1).all()
    assert found["tfidf_logistic"].n_fit_rows == len(TEXTS)
    assert found["tfidf_logistic"].note == f"fitted on {len(TEXTS)} of {len(TEXTS) + 1} training rows"


def test_many_rows_are_sampled_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_ROWS", 10)
    targets = one_hot(CLASSES, 3)
    rows = rows_to_fit(ABC, targets, None, seed=0)
    assert len(rows) == 10
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, rows_to_fit(ABC, targets, None, seed=0))
    assert not np.array_equal(rows, rows_to_fit(ABC, targets, None, seed=1))
    asked = []

    def features(name: str, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.append((name, len(wanted)))
        return np.zeros((len(wanted), 2), dtype=np.float32)

    train = part(TEXTS, targets)
    found = fit_baselines(ABC, train, {"test": train}, features=features, feature_rows=5)
    assert asked == [("train", 5), ("test", len(TEXTS))]
    assert found["frozen_logistic"].note == "fitted on 5 of 24 training rows"
    assert found["tfidf_logistic"].note == "fitted on 10 of 24 training rows"
    assert found["zero_rule"].note == ""
    weights = np.zeros(len(targets), dtype=np.float32)
    weights[[3, 5]] = 1.0
    assert rows_to_fit(ABC, targets, weights, seed=0).tolist() == [3, 5]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("emoji", ["😀😀", "😡", "😀", "😡😡"] * 6),
        (
            "without spaces",
            ["我的包裹在哪里呢", "请把钱退给我吧", "包裹在哪里啊请问一下", "我想要退钱谢谢你们"] * 6,
        ),
    ],
)
def test_texts_without_words_are_read_by_characters(kind: str, texts: list[str]) -> None:
    classes = np.tile([0, 1], 12)
    train = part(texts, one_hot(classes, 2))
    found = fit_baselines(Binary(["a", "b"]), train, {"test": train})["tfidf_logistic"]
    assert (found.probabilities["test"].argmax(axis=1) == classes).all()
    assert "characters in place of words" in found.note


def test_the_second_text_of_a_pair_counts() -> None:
    classes = np.tile([0, 1], 12)
    pairs = [["it rains", "it shines"][c] for c in classes]
    train = part(["what is the weather"] * 24, one_hot(classes, 2), pairs=pairs)
    found = fit_baselines(Binary(["a", "b"]), train, {"test": train})["tfidf_logistic"]
    assert (found.probabilities["test"].argmax(axis=1) == classes).all()


@pytest.mark.parametrize("task", [ABC, Multilabel(["a", "b", "c"])])
def test_trees_find_a_rule_that_is_not_linear(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MOST_TREES", 30)
    numbers = np.random.default_rng(0).uniform(-1, 1, size=(150, 2)).astype(np.float32)
    classes = (np.abs(numbers[:, 0]) > 0.5) + (np.abs(numbers[:, 0]) > 0.75).astype(int)
    train = part(["t"] * 150, one_hot(classes, 3), numbers=numbers)
    found = fit_baselines(task, train, {"test": train}, only=["boosted_trees"])["boosted_trees"]
    assert (found.probabilities["test"].argmax(axis=1) == classes).mean() > 0.95


def test_soft_targets_equal_rows_repeated_with_shares_as_weights() -> None:
    soft = 0.7 * one_hot(CLASSES, 3) + 0.1
    n = len(soft)
    features = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    how: dict[str, Any] = {"strength": 1.0, "multilabel": False}
    whole = fit_logistic(features, soft, np.ones(n, dtype=np.float32), **how)
    each_class = np.tile(np.eye(3, dtype=np.float32), (n, 1))
    repeated = fit_logistic(np.repeat(features, 3, axis=0), each_class, soft.reshape(-1), **how)
    assert whole.logits(features) == pytest.approx(repeated.logits(features), abs=1e-3)


def test_the_strength_is_chosen_on_an_inner_split() -> None:
    """Noise needs a strong penalty: with C = 100 the training rows would be learned by heart."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(80, 40)).astype(np.float32)
    train = part(["t"] * 80, one_hot(generator.integers(2, size=80), 2))
    found = fit_baselines(
        Binary(["a", "b"]),
        train,
        {"test": train},
        features=lambda _, rows: noise[rows],
        only=["frozen_logistic"],
    )["frozen_logistic"]
    assert found.probabilities["test"].max() < 0.9


def test_unknown_and_impossible_names() -> None:
    train = part(TEXTS, one_hot(CLASSES, 3))
    with pytest.raises(ConfigError, match="'zero_rul' is no baseline; did you mean 'zero_rule'"):
        fit_baselines(ABC, train, {}, only=["zero_rul"])
    with pytest.raises(ConfigError, match=r"'boosted_trees' needs data\.numeric, which this config lacks"):
        fit_baselines(ABC, train, {}, only=["boosted_trees"])
