"""A look at a data file that holds a table and no texts: its columns, its labels, and a config for it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from etude.config.columns import ColumnsConfig
from etude.data.cells import is_missing
from etude.data.columns import Column, find_columns
from etude.data.inspect import LABEL_NAMES, find_sibling, inspect_table, render_config
from etude.data.inspect_images import find_images, propose_images
from etude.data.labels import infer_kind, read_labels
from etude.data.sources import read_table
from etude.data.table import Table
from etude.errors import DataError

MOST_LABELS = 50
"""A column of more different values is not taken for that of the labels unless its name says so."""


def propose_config(path: str, *, test: str | None = None, run_dir: str = "runs/first") -> str:
    """Look at a file and return a config as commented TOML: for its table, or for its texts.

    Args:
        path: the training file.
        test: a file of test rows.
        run_dir: where the run shall go.

    Raises:
        DataError: the file cannot be read, or no column looks like labels.
    """
    images = find_images(path)
    if images is None:
        table = read_table(path, role="train")
        images = find_images(path, table)
    if images is not None:
        return propose_images(path, *images, test=test, run_dir=run_dir)
    columns = _columns(table)
    if not is_table(columns):
        return render_config(inspect_table(table), test=test, run_dir=run_dir)
    return _render(table, columns, test or find_sibling(path, ("test",)), run_dir)


def is_table(columns: Sequence[Column]) -> bool:
    """Whether columns are those of a table: three or more without a text, or four of numbers beside one.

    >>> is_table([Column("age", "numeric"), Column("job", "categorical"), Column("label", "boolean")])
    True
    >>> is_table([Column("text", "text"), Column("a", "boolean"), Column("b", "boolean")])
    False
    """
    n_numeric = sum(column.kind == "numeric" for column in columns)
    has_text = any(column.kind == "text" for column in columns)
    return n_numeric >= 4 or (not has_text and len(columns) >= 3)


def _columns(table: Table) -> list[Column]:
    try:
        return find_columns(table, ColumnsConfig(), [])[0]
    except DataError:
        return []


def guess_labels(table: Table, columns: Sequence[Column]) -> tuple[str | list[str], str]:
    """Return the column or the columns of the labels, and why.

    Raises:
        DataError: none looks like it.
    """
    flags = [column.name for column in columns if column.name.startswith("label:")]
    if len(flags) > 1:
        return flags, f'The labels are {len(flags)} columns, whose names begin with "label:".'
    named = [name for name in table.columns if name.strip().lower() in LABEL_NAMES]
    if named:
        return named[0], f"The labels are in {named[0]!r}, as the name says."
    distinct = {name: len(set(map(str, cells))) for name, cells in table.values.items()}
    few = [
        name
        for name, cells in table.values.items()
        if 1 < distinct[name] <= MOST_LABELS and not any(is_missing(cell) for cell in cells)
    ]
    if not few:
        raise DataError(
            f"{table.path} has no column that looks like labels; name it in the config, as data.labels"
        )
    last = table.columns[-1]
    name = last if last in few else min(few, key=lambda column: distinct[column])
    return name, (
        f"The labels may be in {name!r}, which holds {distinct[name]} different values; name another if not."
    )


def _render(table: Table, columns: Sequence[Column], test: str | None, run_dir: str) -> str:
    labels, why = guess_labels(table, columns)
    kind = infer_kind(read_labels(table, labels, None))
    taken = {labels} if isinstance(labels, str) else set(labels)
    features = [column for column in columns if column.name not in taken]
    lines = "\n".join(
        f"# {name}: {_comment(', '.join(found))}"
        for name in ("numeric", "categorical", "boolean", "date", "text")
        if (found := [column.name for column in features if column.kind == name])
    )
    held_out = f"test = {_quote(test)}" if test else '# test = "test.csv"'
    return f"""\
# Written by looking at {_comment(table.path)}: {table.rows} rows, {len(table.columns)} columns.
# Every key that is not here has a default; `etude explain` shows the whole plan before training.

task = {_quote(kind)}
seed = 0

[data]
train = {_quote(table.path)}
# A test file is read by the final evaluation only; without one the run ends with validation scores.
{held_out}
validation = {0.1 if table.rows >= 1000 else 0.2}
# {_comment(why)}
labels = {_quote(labels)}

# What the columns seem to be; say otherwise with numeric = ["..."], categorical, boolean, date, text, ignore.
{lines}
[columns]

[backbone]
kind = "table"
# Also "resnet", "ft_transformer" and "tab_transformer".
model = "mlp"

[train]
epochs = {20 if table.rows < 10_000 else 10}
batch_size = {256 if table.rows >= 10_000 else 32}

[run]
dir = {_quote(run_dir)}
"""


def _quote(value: str | list[str]) -> str:
    """A JSON string is a TOML string, and a JSON list of them a TOML array."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """A comment has one line and no control characters."""
    return "".join(character if character.isprintable() else " " for character in text)
