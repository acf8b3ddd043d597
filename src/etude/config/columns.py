"""``[columns]``: what the columns of a table are, and how they are prepared."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from etude.config.fields import Strict, setting

Share = Annotated[float, Field(ge=0.0, lt=0.5)]
"""A share of the rows at one end of a column; twice as much is less than all."""

ColumnKind = Literal["numeric", "categorical", "boolean", "date", "text", "ignore"]
"""What a column may be."""


class ColumnsConfig(Strict):
    """What the columns of a table are, and how they are prepared.

    A column that no list names is looked at. Those that hold the label, the weight, the group or the time
    are never features.
    """

    numeric: list[str] | None = setting(None, help="columns of numbers; absent ones are found by looking")
    categorical: list[str] | None = setting(None, help="columns of categories")
    boolean: list[str] | None = setting(None, help="columns of yes and no, true and false, 1 and 0")
    date: list[str] | None = setting(None, help="columns of dates: year, month, weekday and days are used")
    text: list[str] | None = setting(None, help="columns of free text, which backbone.text.path reads")
    ignore: list[str] | None = setting(None, help="columns that are left out, as identifiers")
    missing: Literal["median", "error"] = setting(
        "median",
        help="a missing number counts as the training rows' median, with a column that says so; or an error",
    )
    missing_category: Literal["own", "most_frequent"] = setting(
        "own", help="a missing category is one of its own, or counts as the most frequent one"
    )
    scaling: Literal["quantile", "standard", "robust", "none"] = setting(
        "quantile", help="numbers become normal by their ranks, or are shifted and scaled"
    )
    winsorise: Share = setting(
        0.025, help="share of the rows at each end whose numbers are pulled to the quantile there; 0 for none"
    )
    max_categories: int = setting(
        10_000, help="categories of a column; rarer ones count as one, together with unseen ones", ge=1
    )
    min_rows: int = setting(2, help="a category of fewer training rows counts as rare", ge=1)

    @model_validator(mode="after")
    def _columns_have_one_kind(self) -> Self:
        kinds: dict[str, str] = {}
        for kind in ("numeric", "categorical", "boolean", "date", "text", "ignore"):
            for name in getattr(self, kind) or ():
                if name in kinds:
                    other = "twice" if kinds[name] == kind else f"and so does {kinds[name]}"
                    raise ValueError(f"{kind} names the column {name!r}, {other}; name it once")
                kinds[name] = kind
        return self

    @property
    def stated(self) -> dict[str, ColumnKind]:
        """The kind of every column that a list names."""
        kinds: tuple[ColumnKind, ...] = ("numeric", "categorical", "boolean", "date", "text", "ignore")
        return {name: kind for kind in kinds for name in getattr(self, kind) or ()}
