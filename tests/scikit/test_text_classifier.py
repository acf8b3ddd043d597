"""The text estimator in scikit-learn's hands, on a real tiny BERT."""

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import etude
from etude import TextClassifier

sys.path.insert(0, str(Path(__file__).parents[1] / "backbones"))
from tiny_checkpoints import write_checkpoint

CARDS = [
    f"the card was lost please {word}" for word in ("help", "send", "a", "new", "one", "card", "me", "is")
]
MONEY = [
    f"where is my money {word}"
    for word in ("help", "please", "account", "closed", "open", "a", "now", "lost")
]
X, Y = CARDS + MONEY, ["card"] * 8 + ["money"] * 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bert")
    write_checkpoint(folder, "bert")
    return str(folder)


def make(checkpoint: str, **arguments: object) -> TextClassifier:
    settings = {"epochs": 8, "batch_size": 4, "lr": 1e-3, "precision": "fp32", **arguments}
    return TextClassifier(backbone={"path": checkpoint, "max_length": 16, "pooling": "mean"}, **settings)


def test_it_learns_and_predicts_its_own_classes(checkpoint: str) -> None:
    model = make(checkpoint).fit(X, Y)
    assert model.classes_.tolist() == ["card", "money"]
    assert model.score(X, Y) == 1.0
    probabilities = model.predict_proba(np.array(X))
    assert probabilities.shape == (16, 2)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert model.predict(X).tolist() == model.classes_[probabilities.argmax(axis=1)].tolist()


@pytest.mark.parametrize("classes", [[3, -1], [True, False], [2.0, 1.0], ["b ", "b"]])
def test_classes_come_back_as_they_were_given(checkpoint: str, classes: list[object]) -> None:
    y = np.array([classes[0]] * 8 + [classes[1]] * 8)
    model = make(checkpoint).fit(X, y)
    assert model.predict(X).dtype == y.dtype
    assert (model.predict(X) == y).all()


def test_several_labels_at_once(checkpoint: str) -> None:
    y = np.array([[1, 0, 1]] * 8 + [[0, 1, 1]] * 8)
    y[::2, 2] = 0
    model = make(checkpoint).fit(X, y)
    assert model.predict(X).shape == model.predict_proba(X).shape == (16, 3)
    assert (model.predict(X)[:, :2] == y[:, :2]).all()


def test_weights_of_rows_and_of_classes_reach_the_training(checkpoint: str) -> None:
    def probabilities(**given: object) -> np.ndarray:
        weights = given.pop("sample_weight", None)
        return make(checkpoint, **{"epochs": 1, **given}).fit(X, Y, sample_weight=weights).predict_proba(X)

    plain = probabilities()
    assert np.array_equal(plain, probabilities(sample_weight=np.ones(16)))
    assert not np.array_equal(plain, probabilities(sample_weight=np.arange(16)))
    assert np.array_equal(plain, probabilities(class_weight="balanced"))  # as many rows of either class
    same = ["where is my money"] * 16  # nothing but the weights tells the classes apart
    heavy, light = (
        make(checkpoint, class_weight={"money": weight}).fit(same, Y).predict_proba(same)[0, 1]
        for weight in (4.0, 0.25)
    )
    assert light < 0.4 < 0.6 < heavy


def test_equal_seeds_equal_models_and_copies_predict_alike(checkpoint: str, tmp_path: Path) -> None:
    model = make(checkpoint, epochs=1).fit(X, Y)
    expected = model.predict_proba(X)
    assert np.array_equal(expected, make(checkpoint, epochs=1).fit(X, Y).predict_proba(X))
    assert not np.array_equal(expected, make(checkpoint, epochs=1, random_state=1).fit(X, Y).predict_proba(X))
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):  # noqa: S301 - our own bytes
        assert np.array_equal(other.predict_proba(X), expected)
    model.save(tmp_path / "saved")
    opened = etude.load(tmp_path / "saved").predict(X)
    assert [p.label for p in opened] == model.predict(X).tolist()


def test_it_goes_where_classifiers_go(checkpoint: str) -> None:
    model = make(checkpoint, epochs=2)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(lr=1e-3).lr == 1e-3
    search = GridSearchCV(make(checkpoint, epochs=1), {"lr": [1e-3, 3e-3]}, cv=2).fit(X, Y)
    assert set(search.best_params_) == {"lr"}
    assert cross_val_score(model, X, Y, cv=2).shape == (2,)
    lower = Pipeline(
        [("lower", FunctionTransformer(lambda texts: [t.lower() for t in texts])), ("net", model)]
    )
    assert lower.fit([t.upper() for t in X], Y).predict(X).shape == (16,)
    calibrated = CalibratedClassifierCV(model, cv=2).fit(X, Y)
    assert calibrated.predict_proba(X).shape == (16, 2)


def test_any_setting_of_a_config_can_be_given(checkpoint: str) -> None:
    settings = {"loss.name": "focal", "loss.gamma": 1.0}
    techniques = {"ema": {"decay": 0.5}, "label_smoothing": {"smoothing": 0.1}}
    model = make(checkpoint, settings=settings, techniques=techniques, validation=0.25).fit(X, Y)
    assert {"ema", "focal", "label_smoothing"} <= set(model.model_.metadata["techniques"])
    assert "loss_history" not in model.model_.metadata["techniques"]


@pytest.mark.parametrize(
    ("error", "arguments", "x", "y", "words"),
    [
        (TypeError, {}, "one text", ["a"], "X is one text, 'one text', and a list of texts is expected"),
        (TypeError, {}, ["a", 3], ["a", "b"], r"X\[1\] is 3, and a text is expected"),
        (ValueError, {}, [], [], "X holds 0 texts and at least 1 is required"),
        (ValueError, {}, ["a", "b"], ["a", "a"], "y has 1 class, 'a', and at least two"),
        (ValueError, {}, ["a", "b"], ["a"], "X has 2 rows and y has 1"),
        (ValueError, {}, ["a", ""], ["a", "b"], "X, row 1, column 'text' has an empty text"),
        (ValueError, {"techniques": {"emma": {}}}, X, Y, "emma"),
        (ValueError, {"settings": {"train.epoch": 1}}, X, Y, "unknown key 'epoch'.*did you mean 'epochs'"),
        (
            ValueError,
            {"class_weight": {"cash": 2.0}},
            X,
            Y,
            "class_weight names 'cash', which is no class of y",
        ),
        (ValueError, {"lr": -1.0}, X, Y, "lr is -1.0 and must be a number above 0"),
    ],
)
def test_bad_input_gets_one_sentence(
    checkpoint: str, error: type[Exception], arguments: dict[str, object], x: object, y: object, words: str
) -> None:
    with pytest.raises(error, match=words):
        make(checkpoint, **arguments).fit(x, y)
