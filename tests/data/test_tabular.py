"""Tables are scaled and coded as the training rows say, in training and in prediction alike."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import RobustScaler, StandardScaler

from etude.config.columns import ColumnsConfig
from etude.config.load import parse_config
from etude.core.observe import Reporter
from etude.data.load import Data, load_data
from etude.data.table import Table
from etude.data.table_scale import TableScale, fit_number, normal_scores
from etude.data.tabular import FittedTable, TableExamples, TableLoader, build_table_examples
from etude.errors import DataError


def table_of(values: dict[str, list[Any]], path: str = "a.csv") -> Table:
    n = len(next(iter(values.values())))
    return Table(path, values, range(1, n + 1))


def people(n: int = 200, seed: int = 0) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    ages = rng.integers(18, 80, n)
    return {
        "age": [str(a) if i % 7 else "" for i, a in enumerate(ages)],
        "sex": rng.choice(["f", "m"], n).tolist(),
        "job": [f"job {i % 9}" if i % 11 else "?" for i in range(n)],
        "since": [f"20{10 + i % 9}-0{1 + i % 5}-1{i % 9}" for i in range(n)],
        "weight": ["1"] * n,
        "label": ["old" if a > 50 else "young" for a in ages],
    }


def load(values: dict[str, list[Any]], **settings: Any) -> tuple[Data, TableLoader]:
    config = parse_config(
        {
            "data": {"train": "a.csv", **settings.pop("data", {})},
            "backbone": {"kind": "table"},
            "columns": settings,
        }
    )
    loader = TableLoader(config)
    return load_data(config, loader, Reporter(), {"train": table_of(values)}), loader


def predict_rows(loader: TableLoader, values: dict[str, list[Any]]) -> TableExamples:
    """Rows as a saved model reads them: from JSON alone."""
    assert loader.fitted is not None
    fitted = FittedTable.from_json(json.loads(json.dumps(loader.fitted.to_json())))
    assert fitted == loader.fitted
    return build_table_examples(fitted.content(table_of(values, "new.csv")), fitted.scale, None, None)


def test_a_table_becomes_numbers_and_codes() -> None:
    data, _ = load(people(), data={"weight": "weight"})
    train = data.train
    assert isinstance(train, TableExamples)
    assert train.number_names == ["age", "since year", "since month", "since weekday", "since day number"]
    assert train.category_names == ["sex", "job"]
    assert train.numbers.shape == (180, 6)  # and whether the age is missing; a day is never
    assert train.cardinalities == [3, 11]
    inputs = train.inputs(np.array([3, 1]))
    assert torch.equal(inputs["numbers"], train.numbers[[3, 1]])
    assert torch.equal(inputs["categories"], train.categories[[3, 1]])
    assert inputs["categories"].dtype == torch.int64
    assert (np.isnan(train.raw_numbers[:, 0]) == train.numbers[:, -1].numpy()).all()
    assert data.texts["train"][0].startswith("age ")


def test_rows_to_predict_are_prepared_as_the_training_rows() -> None:
    values = people()
    data, loader = load(values, data={"validation": False})
    assert isinstance(data.train, TableExamples)
    again = predict_rows(loader, values)
    assert torch.equal(again.numbers, data.train.numbers)
    assert torch.equal(again.categories, data.train.categories)
    more = predict_rows(loader, {"new": [1, 2], **{k: v[:2] for k, v in values.items() if k != "label"}})
    assert torch.equal(more.numbers, data.train.numbers[:2])


def test_what_predictions_may_bring() -> None:
    _, loader = load(people(), data={"validation": False})
    row = {"age": [31], "sex": ["x"], "job": [None], "since": ["2015-03-11"]}
    found = predict_rows(loader, row)
    known = loader.fitted.scale.categories[1].known  # type: ignore[union-attr]
    assert found.categories.tolist() == [[0, known.index(None) + 1]]  # unseen, and missing as its own
    number = predict_rows(loader, row | {"sex": [3]})
    assert number.categories[0, 0] == 0
    with pytest.raises(DataError, match=r"new\.csv has no column 'job'; did you mean 'jobs'\?"):
        predict_rows(loader, {("jobs" if k == "job" else k): v for k, v in row.items()})
    with pytest.raises(DataError, match=r"new\.csv, row 1, column 'age' holds 'old', and a finite number"):
        predict_rows(loader, row | {"age": ["old"]})
    with pytest.raises(DataError, match=r"new\.csv, row 1, column 'age' holds inf, and a finite number"):
        predict_rows(loader, row | {"age": [float("inf")]})


def test_the_scale_comes_from_the_training_rows_alone() -> None:
    values = people()
    whole, _ = load(values)
    held_out = set(whole.rows["validation"].tolist())
    values["age"] = ["99999" if i in held_out else cell for i, cell in enumerate(values["age"])]
    again, _ = load(values)
    assert torch.equal(whole.train.numbers, again.train.numbers)  # type: ignore[attr-defined]


@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_scaling_is_that_of_sklearn(scaling: Any) -> None:
    numbers = np.random.default_rng(0).gamma(2.0, size=300)
    scaler = StandardScaler() if scaling == "standard" else RobustScaler()
    column = fit_number("x", numbers, ColumnsConfig(scaling=scaling, winsorise=0.0))
    assert np.allclose(column.apply(numbers), scaler.fit_transform(numbers[:, None])[:, 0])
    column = fit_number("x", numbers, ColumnsConfig(scaling=scaling))
    low, high = np.quantile(numbers, [0.025, 0.975])
    assert np.allclose(
        column.apply(np.array([-1e9, 1e9])), column.apply(np.array([low, high]))
    )  # pulled in at 2.5 %


def test_quantile_scaling_gives_normal_scores() -> None:
    numbers = np.random.default_rng(0).lognormal(size=5000)
    column = fit_number("x", numbers, ColumnsConfig(winsorise=0))
    scaled = column.apply(numbers)
    assert abs(scaled.mean()) < 0.01
    assert abs(scaled.std() - 1) < 0.01
    assert (np.diff(scaled[np.argsort(numbers)]) >= 0).all()
    assert len(column.knots) <= 1000
    assert np.isfinite(column.apply(np.array([-1e300, 1e300]))).all()


def test_equal_numbers_get_the_middle_of_their_ranks() -> None:
    knots, normal = normal_scores(np.array([0.0] * 92 + list(range(1, 9))))
    assert knots[0] == 0.0
    assert normal[0] == pytest.approx(-0.1004, abs=1e-3)  # the quantile of 0.46


@pytest.mark.parametrize("scaling", ["quantile", "standard", "robust", "none"])
@pytest.mark.parametrize(
    "numbers",
    [np.array([0.0] * 99 + [1.0]), np.array([1e300, -1e300, 1e308, -1e308]), np.array([5.0, np.nan])],
)
def test_hard_columns_give_finite_numbers(scaling: Any, numbers: NDArray[np.float64]) -> None:
    column = fit_number("x", numbers, ColumnsConfig(scaling=scaling))
    with np.errstate(all="raise"):
        scaled = column.apply(numbers)
    assert np.isfinite(scaled).all()
    if scaling != "none":
        assert np.abs(scaled).max() < 50


def test_columns_that_tell_nothing_are_left_out() -> None:
    values = people() | {"empty": [""] * 200, "same": ["7"] * 200, "one": ["a"] * 200}
    data, loader = load(values)
    warnings = "\n".join(data.warnings)
    assert "column 'empty' of a.csv has no value in any row; it is left out" in warnings
    for name in ("same", "one"):
        assert f"column '{name}' holds the same in all training rows and tells nothing" in warnings
    rows = {k: v[:3] for k, v in values.items() if k not in ("empty", "same", "one", "label")}
    assert len(predict_rows(loader, rows)) == 3  # nor are they asked for


def test_rare_categories_count_as_one_with_unseen_ones() -> None:
    values = people() | {"city": [f"city {i}" if i < 20 else f"city {i % 3}" for i in range(200)]}
    _, loader = load(values, data={"validation": False}, min_rows=5, max_categories=2)
    city = loader.fitted.scale.categories[-1]  # type: ignore[union-attr]
    assert len(city.known) == 2
    assert city.codes_of(["city 19", "Atlantis", city.known[0]]).tolist() == [0, 0, 1]


def test_a_missing_category_may_be_the_most_frequent_one() -> None:
    values = people() | {"city": [None if i % 5 == 0 else "Rome" if i % 2 else "Bern" for i in range(200)]}
    _, loader = load(values, data={"validation": False}, missing_category="most_frequent")
    city = loader.fitted.scale.categories[-1]  # type: ignore[union-attr]
    assert None not in city.known
    assert city.codes_of([None]) == city.codes_of([city.fill])


def test_100_000_categories_are_no_trouble() -> None:
    n = 200_000
    values = {
        "shop": [f"shop {i % 100_000}" for i in range(n)],
        "x": [i % 17 for i in range(n)],
        "label": ["a" if i % 3 else "b" for i in range(n)],
    }
    start = time.process_time()
    data, loader = load(values, max_categories=200_000, min_rows=1)
    assert data.train.cardinalities[0] > 90_000  # type: ignore[attr-defined]
    assert predict_rows(loader, {"shop": ["shop 5"], "x": [3]}).categories[0, 0] > 0
    assert time.process_time() - start < 20


def test_shared_rows_are_counted() -> None:
    values = people()
    doubled = {name: cells + cells for name, cells in values.items()}
    data, _ = load(doubled, data={"validation": 0.5})
    assert any("rows have the same inputs as a training row" in warning for warning in data.warnings)


def test_a_single_row_can_be_predicted_and_texts_are_told() -> None:
    values = people() | {"note": [f"this is remark {i} of many" for i in range(200)]}
    data, loader = load(values)
    assert any(
        "column 'note' holds free text and is left out; give [backbone.text] a path" in w
        for w in data.warnings
    )
    assert len(predict_rows(loader, {k: v[:1] for k, v in values.items()})) == 1


def test_the_scale_survives_json() -> None:
    _, loader = load(people())
    scale = loader.fitted.scale  # type: ignore[union-attr]
    assert TableScale.from_json(json.loads(json.dumps(scale.to_json()))) == scale
