"""Groups and times: cells of every kind, and the place of one that is neither."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etude.data.groups_and_times import read_groups, read_times
from etude.data.sources import read_table
from etude.data.table import Table
from etude.errors import DataError


def table(*cells: Any) -> Table:
    return Table("a.csv", {"x": list(cells)}, range(1, len(cells) + 1))


def test_numbers_keep_their_value_however_they_are_written() -> None:
    assert read_times(table("2021", " 20220131", "3.5", "-1e3"), "x").tolist() == [2021, 20220131, 3.5, -1000]
    assert read_times(table(2021, 1.5), "x").tolist() == [2021, 1.5]


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970-01-01T01:00:00", 3600),
        (" 1970-01-01 01:00 ", 3600),
        ("1970-01-01T01:00:00Z", 3600),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31", -86400),
        ("0001-01-01", -62135596800),
        (date(1970, 1, 2), 86400),
        (datetime(1970, 1, 1, 1, tzinfo=UTC), 3600),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), -3600),
        (datetime(1970, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC).replace(tzinfo=None), 0.25),
    ],
)
def test_dates_count_seconds_and_are_utc_where_they_say_nothing(cell: Any, seconds: float) -> None:
    assert read_times(table(cell), "x").tolist() == [seconds]


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_the_dates_of_a_parquet_file(unit: str, tmp_path: Path) -> None:
    moments = [datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 3, tzinfo=UTC)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": pa.array(moments, pa.timestamp(unit, "UTC"))}), path)
    assert read_times(read_table(str(path), role="train"), "x").tolist() == [0, 2 * 86400]


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("yesterday", "'yesterday'"),
        ("31.01.2024", "'31.01.2024'"),
        ("2024-02-30", "'2024-02-30'"),
        ("nan", "'nan'"),
        (float("inf"), "inf"),
        (True, "True"),
        ("", "no date"),
        (None, "no date"),
    ],
)
def test_a_cell_that_is_no_date(cell: Any, shown: str) -> None:
    with pytest.raises(DataError) as raised:
        read_times(table("2024-01-31", cell), "x")
    assert str(raised.value) == (
        f"a.csv, row 2, column 'x' holds {shown}, and a number or an ISO date is expected, as 2024-01-31 or "
        "2024-01-31T12:00:00; correct it, or remove the row"
    )


def test_dates_and_numbers_do_not_mix() -> None:
    with pytest.raises(
        DataError, match=r"^a.csv, row 2, column 'x' holds the number '2024' and the rows befo"
    ):
        read_times(table("2024-01-31", "2024"), "x")


def test_groups_are_text() -> None:
    assert read_groups(table("anna", 7, " anna ", "7", True), "x") == ["anna", "7", "anna", "7", "True"]


@pytest.mark.parametrize("cell", [None, "", "  ", float("nan")])
def test_a_row_without_a_group(cell: Any) -> None:
    with pytest.raises(
        DataError, match=r"^a.csv, row 2, column 'x' has no group; give the row one of its own, or remove it$"
    ):
        read_groups(table("anna", cell), "x")


def test_a_list_is_no_group() -> None:
    with pytest.raises(
        DataError, match=r"^a.csv, row 1, column 'x' holds \['a'\], and one name or number is"
    ):
        read_groups(table(["a"]), "x")
