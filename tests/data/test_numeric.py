"""Numeric columns beside the text: what is a number, what is missing, and how they are scaled."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from etude.config.load import parse_config
from etude.config.numbers import NumberScale
from etude.data.numeric import constant_columns, fit_scale, read_numbers
from etude.data.table import Table
from etude.errors import ConfigError, DataError


def table(*ages: Any) -> Table:
    return Table("people.csv", {"age": list(ages)}, range(1, len(ages) + 1))


def test_strings_numbers_and_booleans_are_read() -> None:
    assert read_numbers(table("41", " -1.5e3 ", 7, 0.25, True), ["age"], fill=False)[:, 0].tolist() == [
        41.0,
        -1500.0,
        7.0,
        0.25,
        1.0,
    ]


@pytest.mark.parametrize("cell", ["old", "nan", "inf", math.inf, [1], {"a": 1}, 10**400])
@pytest.mark.parametrize("fill", [False, True])
def test_what_is_no_number(cell: Any, fill: bool) -> None:
    with pytest.raises(DataError, match=r"people.csv, row 2, column 'age' holds .*, and a finite number"):
        read_numbers(table(1, cell), ["age"], fill=fill)


@pytest.mark.parametrize("cell", [None, "", "  ", math.nan])
def test_what_is_missing(cell: Any) -> None:
    words = "row 2, column 'age' has no number; give it one, or train with data.numeric_missing = \"mean\""
    with pytest.raises(DataError, match=words):
        read_numbers(table(1, cell), ["age"], fill=False)
    assert np.isnan(read_numbers(table(1, cell), ["age"], fill=True)[1, 0])


def test_a_missing_column_names_the_closest() -> None:
    with pytest.raises(DataError, match=r"people.csv has no column 'agee'; did you mean 'age'\?"):
        read_numbers(table(1), ["agee"], fill=True)


def test_the_scale_is_that_of_scikit_learn() -> None:
    numbers = np.random.default_rng(0).normal([1e9, -3.0], [2.0, 1e-4], size=(50, 2))
    scale = fit_scale(table(), ["time", "share"], numbers, fill=False)
    reference = StandardScaler().fit(numbers)
    np.testing.assert_allclose(scale.mean, reference.mean_, rtol=1e-12)
    np.testing.assert_allclose(scale.deviation, reference.scale_, rtol=1e-6)
    np.testing.assert_allclose(scale.apply(numbers), reference.transform(numbers), atol=1e-5)
    assert NumberScale.from_json(scale.to_json()) == scale


def test_missing_numbers_count_as_the_mean_and_not_in_it() -> None:
    numbers = np.array([[1.0], [math.nan], [3.0]])
    scale = fit_scale(table(), ["age"], numbers, fill=True)
    assert (scale.mean, scale.deviation) == ((2.0,), (1.0,))
    assert scale.apply(numbers)[:, 0].tolist() == [-1.0, 0.0, 1.0]


def test_equal_numbers_become_zero() -> None:
    numbers = np.full((7, 1), 0.1)
    assert constant_columns(["age"], numbers) == ["age"]
    assert fit_scale(table(), ["age"], numbers, fill=False).apply(numbers).tolist() == [[0.0]] * 7
    assert constant_columns(["age"], np.array([[1.0], [2.0], [math.nan]])) == []


def test_a_column_without_any_number() -> None:
    with pytest.raises(
        DataError, match=r"people.csv, column 'age' has no number in any training row; remove"
    ):
        fit_scale(table(None, None), ["age"], np.full((2, 1), math.nan), fill=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"numeric": ["label"]}, "data: numeric names 'label', the column of the label; name other columns"),
        ({"numeric": ["text"]}, "data: numeric names 'text', the column of the text; name other"),
        ({"numeric": ["b"], "text_pair": "b"}, "data: numeric names 'b', the column of the second text"),
        ({"numeric": ["x"], "labels": ["x", "y"]}, "data: numeric names 'x', the column of the label"),
        ({"numeric": ["age", "age"]}, "data: numeric names 'age' 2 times; name it once"),
        ({"numeric": "age"}, "data.numeric is 'age' and must be a list of texts"),
        ({"numeric_missing": "zero"}, "data.numeric_missing is 'zero' and must be 'error' or 'mean'"),
    ],
)
def test_columns_have_one_meaning(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config({"data": {"train": "a.csv", **data}})
