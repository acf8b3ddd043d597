"""What columns are is found by looking, and each cell is read as that or refused by its place."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pytest

from etude.config.columns import ColumnsConfig
from etude.config.load import parse_config
from etude.data.cells import take_apart
from etude.data.columns import Column, find_columns, look, read_date, read_number
from etude.data.frames import table_of_frame
from etude.data.table import Table
from etude.errors import ConfigError, DataError


def table_of(**values: list[Any]) -> Table:
    n = len(next(iter(values.values())))
    return Table("a.csv", values, range(1, n + 1))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", "-3e2", ""], "numeric"),
        ([1, 2.5, None, math.nan], "numeric"),
        (["?", "7", "NA", "8"], "numeric"),
        (["0", "1", "1", "0"], "boolean"),
        ([0.0, 1.0, 1.0], "numeric"),
        ([True, None, False], "boolean"),
        (["Yes", "No", ""], "boolean"),
        (["2020-01-31", "", "2021-12-01"], "date"),
        (["31.01.2020", "01.12.2021"], "date"),
        (["Jan 3, 2020", "Dec 24, 2021"], "date"),
        ([dt.date(2020, 1, 31), None], "date"),
        ([dt.datetime(2020, 1, 31, 8), dt.datetime(2020, 1, 31, 9)], "date"),
        (["blue", "red", "blue"], "categorical"),
        (["007", "012", "100"], "categorical"),
        (["none", "NA", "none"], "categorical"),
        ([f"a film of {i} good hours" for i in range(9)], "text"),
        ([f"{i}-VHVEG" for i in range(30)], "ignore"),
        ([str(i) for i in range(1, 31)], "ignore"),
        ([str(i) for i in range(1, 10)], "numeric"),
        (["", "?", None], "ignore"),
    ],
)
def test_kinds_are_found(cells: list[Any], kind: str) -> None:
    table = table_of(x=cells)
    column, note = look(table, "x", take_apart(table, "x"))
    assert column.kind == kind
    assert bool(note) == (kind == "ignore")


def test_a_doubtful_column_of_numbers_names_the_cell() -> None:
    table = table_of(x=[*map(str, range(5, 50)), "unknown"])
    column, note = look(table, "x", take_apart(table, "x"))
    assert column.kind == "categorical"
    assert "a.csv, row 46 holds 'unknown' where most others are numbers" in note


def test_dates_that_two_forms_fit_are_told() -> None:
    table = table_of(x=["03/04/2020", "05/06/2020"])
    column, note = look(table, "x", take_apart(table, "x"))
    assert column.form == "%m/%d/%Y"
    assert "write them as YYYY-MM-DD" in note


def test_the_config_is_believed() -> None:
    table = table_of(a=["1", "2"], b=["1", "2"], c=["1", "2"], label=["x", "y"])
    columns, notes = find_columns(table, ColumnsConfig(categorical=["a"], ignore=["c"]), ["label"])
    assert [(c.name, c.kind) for c in columns] == [("a", "categorical"), ("b", "numeric")]
    assert notes == []


def test_a_stated_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"columns\.numeric names 'agee' and a\.csv has no such column; did you mean 'age'"
    ):
        find_columns(table_of(age=["1"]), ColumnsConfig(numeric=["agee"]), [])


def test_a_table_with_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"a\.csv has no column to learn from beside label; column 'x' of a\.csv has no"
    ):
        find_columns(table_of(x=["", ""], label=["a", "b"]), ColumnsConfig(), ["label"])


def test_a_column_has_one_kind() -> None:
    columns = {"numeric": ["age"], "ignore": ["age"]}
    table = {"data": {"train": "a.csv"}, "columns": columns, "backbone": {"kind": "table"}}
    with pytest.raises(ConfigError, match="ignore names the column 'age', and so does numeric; name it once"):
        parse_config(table)


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", math.inf, 10**400, "forty"])
def test_what_is_no_finite_number_is_named(cell: Any) -> None:
    table = table_of(age=["41", cell, "3"])
    with pytest.raises(
        DataError, match=r"a\.csv, row 2, column 'age' holds .* and a finite number is expected"
    ):
        read_number(table, Column("age", "numeric"), take_apart(table, "age"), fill=True)


def test_a_missing_number_is_an_error_where_the_config_says_so() -> None:
    table = table_of(age=["41", "?", "3"])
    cells = take_apart(table, "age")
    assert np.isnan(read_number(table, Column("age", "numeric"), cells, fill=True)).tolist() == [
        False,
        True,
        False,
    ]
    with pytest.raises(DataError, match=r"row 2, column 'age' holds no value; .*columns.missing = .median."):
        read_number(table, Column("age", "numeric"), cells, fill=False)


def test_dates_become_numbers() -> None:
    table = table_of(d=["24.12.2020", "", "24.12.2020"])
    read = read_date(table, Column("d", "date", "%d.%m.%Y"), take_apart(table, "d"), fill=True)
    assert read[0].tolist() == [2020, 12, 3, (dt.date(2020, 12, 24) - dt.date(1970, 1, 1)).days, 0]
    assert np.isnan(read[1]).all()
    table = table_of(d=["2020-12-24"])
    with pytest.raises(
        DataError, match=r"row 1, column 'd' holds '2020-12-24', and a date as DD\.MM\.YYYY is expected"
    ):
        read_date(table, Column("d", "date", "%d.%m.%Y"), take_apart(table, "d"), fill=True)


def test_a_list_in_a_cell_is_named() -> None:
    with pytest.raises(
        DataError, match=r"row 2, column 'x' holds a list, and a number or a text is expected"
    ):
        take_apart(table_of(x=["a", ["b"]]), "x")


def test_data_frames_become_tables() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "n": [1.5, None],
            "i": pd.Series([None, 3], dtype="Int64"),
            "c": pd.Categorical(["u", None]),
            "d": pd.to_datetime(["2020-01-01", None]),
        }
    )
    table = table_of_frame(frame)
    assert table.values["n"] == [1.5, None]
    assert table.values["i"] == [None, 3]
    assert table.values["c"] == ["u", None]
    assert table.line(1, "n") == "the DataFrame, row 1, column 'n'"
    assert look(table, "d", take_apart(table, "d"))[0].kind == "date"


def test_data_frames_with_levels_or_repeated_names_are_refused() -> None:
    pd = pytest.importorskip("pandas")
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))
    with pytest.raises(
        DataError, match=r"columns of 2 levels, as \('a', 'x'\), and one name for each is expected"
    ):
        table_of_frame(levels)
    rows = pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))
    with pytest.raises(DataError, match=r"an index of 2 levels, whose values would be lost"):
        table_of_frame(rows)
    with pytest.raises(DataError, match="has 2 columns named 'a'; rename or remove them"):
        table_of_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(DataError, match="the DataFrame is a list, and a pandas DataFrame is expected"):
        table_of_frame([1])


def test_columns_beside_a_text_backbone_are_refused() -> None:
    table = {"data": {"train": "a.csv"}, "columns": {"numeric": ["age"]}}
    with pytest.raises(
        ConfigError, match=r"\[columns\] says what the columns of a table are and backbone.kind is 'text'"
    ):
        parse_config(table)
