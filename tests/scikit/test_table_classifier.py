"""The table estimator: scikit-learn's own checks, and frames with columns of every kind."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import etude
from etude import TableClassifier

EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a network is trained on random batches: repeating a row changes which rows meet in a batch, so that "
        "weights and repetitions are equal in expectation and not bit for bit"
    ),
}


def make(**arguments: object) -> TableClassifier:
    backbone = {"d_block": 32, "n_blocks": 1, **arguments.pop("backbone", {})}
    settings = {"train.max_steps": 120, **arguments.pop("settings", {})}
    return TableClassifier(
        backbone=backbone, settings=settings, precision="fp32", **{"lr": 1e-2, **arguments}
    )


@pytest.mark.filterwarnings("ignore")  # what sklearn's checks provoke is theirs
def test_it_passes_scikit_learns_own_checks() -> None:
    results = check_estimator(make(), expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert failed == {}
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(EXPECTED)
    assert sum(r["status"] == "passed" for r in results) >= 60


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.normal(40, 10, 200),
            "city": rng.choice(["Rome", "Oslo", "Lima"], 200),
            "member": rng.random(200) < 0.5,
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1000, 200), unit="D"),
            "grade": pd.Categorical(rng.choice(["low", "high"], 200)),
        }
    )
    table.loc[::17, "age"] = np.nan
    table.loc[5, "city"] = None
    return table


@pytest.fixture(scope="module")
def y(frame: pd.DataFrame) -> np.ndarray:
    return np.where((frame["city"] == "Oslo") | (frame["grade"] == "high"), "yes", "no")


@pytest.mark.parametrize("model", ["mlp", "resnet", "ft_transformer", "tab_transformer"])
def test_every_network_learns_a_frame_of_mixed_columns(
    model: str, frame: pd.DataFrame, y: np.ndarray
) -> None:
    net = make(backbone={"model": model}).fit(frame, y)
    assert net.n_features_in_ == 5
    assert net.feature_names_in_.tolist() == list(frame.columns)
    assert net.score(frame, y) > 0.95
    back = pickle.loads(pickle.dumps(net))  # noqa: S301 - our own bytes
    assert np.array_equal(back.predict_proba(frame[:9]), net.predict_proba(frame[:9]))


def test_unseen_categories_and_missing_cells_are_predicted(frame: pd.DataFrame, y: np.ndarray) -> None:
    net = make().fit(frame, y)
    new = frame[:3].copy()
    new["city"] = "Atlantis"
    new["age"] = np.nan
    assert np.isfinite(net.predict_proba(new)).all()


def test_it_goes_where_classifiers_go(frame: pd.DataFrame, y: np.ndarray) -> None:
    scores = cross_val_score(make(), frame, y, cv=2, scoring="roc_auc")
    assert scores.min() > 0.8
    search = GridSearchCV(make(), {"lr": [1e-2, 1e-4]}, cv=2).fit(frame, y)
    assert search.best_params_ == {"lr": 1e-2}
    numbers = ColumnTransformer([("numbers", StandardScaler(), ["age"])], remainder="passthrough")
    whole = make_pipeline(numbers.set_output(transform="pandas"), make())
    assert whole.fit(frame, y).predict(frame).shape == (200,)


def test_several_labels_and_a_saved_model(frame: pd.DataFrame, y: np.ndarray, tmp_path: object) -> None:
    both = np.stack([y == "yes", frame["member"].to_numpy()], axis=1).astype(int)
    net = make(validation=0.2).fit(frame, both)
    assert net.predict(frame).shape == (200, 2)
    assert net.decision_function(frame).shape == (200, 2)
    net.save(tmp_path / "model")
    row = dict(frame.iloc[0].items())
    said = etude.load(tmp_path / "model").predict([row])[0].probabilities
    assert list(said.values()) == pytest.approx(net.predict_proba(frame[:1])[0].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: pd.concat([f, f[["age"]]], axis=1), "age"),
        (lambda f: f.set_axis(pd.MultiIndex.from_product([["a"], f.columns]), axis=1), "columns of 2 levels"),
        (lambda f: f.assign(age=np.inf), "inf"),
    ],
)
def test_frames_that_cannot_be_read_get_one_sentence(
    change: object, words: str, frame: pd.DataFrame, y: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=words):
        make().fit(change(frame), y)


def test_a_missing_column_is_named(frame: pd.DataFrame, y: np.ndarray) -> None:
    net = make().fit(frame, y)
    with pytest.raises(ValueError, match="city"):
        net.predict(frame.drop(columns="city"))
