"""What a kind of data is to the jobs of a run, and what its saved model is to those who predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etude.config.run import Config
from etude.core.backbone import Backbone
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.plan import Plan
from etude.core.task import Task
from etude.data.load import Data
from etude.data.loader import Loader
from etude.data.sources import stream_rows
from etude.data.table import Table
from etude.errors import DataError


class Saved(ABC):
    """A saved model, opened.

    Attributes:
        backbone: in evaluation mode.
        schema: the ``"input"`` of its ``etude.json``.
        thing: what one input is called, as ``"text"``.
    """

    thing = "row"

    def __init__(self, backbone: Backbone, schema: Mapping[str, Any]) -> None:
        self.backbone, self.schema = backbone, schema

    @abstractmethod
    def examples(self, table: Table, reporter: Reporter, column: str | None = None) -> Examples:
        """Prepare the rows of a table for prediction.

        Args:
            table: its rows; labels are not needed.
            reporter: shows a bar where this takes long.
            column: another name of the column that holds the input, for kinds with one.

        Raises:
            DataError: a column is missing, or a cell cannot be used.
        """

    def examples_of(self, inputs: Sequence[Any], pairs: Sequence[str] | None, reporter: Reporter) -> Examples:
        """Prepare inputs that Python gives: here rows, as mappings from columns to cells.

        Raises:
            DataError: they are not what this model reads.
        """
        if pairs is not None:
            raise DataError("this model takes no pairs; leave them out")
        return self.examples(table_of(inputs), reporter)

    def stream(self, source: str, chunk: int) -> Iterator[Table]:
        """Yield the rows of a file, or of standard input (``"-"``), in tables of at most ``chunk`` rows.

        Raises:
            DataError: it cannot be read.
        """
        return stream_rows(source, chunk)

    def shown(self, table: Table) -> dict[str, list[Any]]:
        """The columns of a table as they are written beside predictions."""
        return {name: table.column(name) for name in table.columns}

    def refuse_teaching(self, data: Data, path: str) -> None:
        """Refuse to be the teacher of a run whose inputs this model would not read as its own.

        Raises:
            ConfigError: names what differs.
        """
        return


class Kind(ABC):
    """One kind of data, for one run.

    Attributes:
        trained_by_steps: whether the engine trains it; else one call of a library fits it.
        shows_inputs: whether what reports show of a row is what the model reads; the name of an image is not,
            and may hold its label.
    """

    trained_by_steps = True
    shows_inputs = True

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    @abstractmethod
    def open_saved(cls, folder: Path, metadata: Mapping[str, Any]) -> Saved:
        """Open a model of this kind."""

    @abstractmethod
    def loader(self) -> Loader:
        """A fresh loader of this run's data."""

    @abstractmethod
    def backbone(self, task: Task, data: Data) -> Backbone:
        """A fresh backbone for the task; its first weights depend on the seed and nothing else.

        Raises:
            ConfigError: there is no such backbone, or its settings do not fit.
        """

    def before_training(self, backbone: Backbone, data: Data, plan: Plan) -> None:
        """Do what may be done once the plan is known and the optimizer is not yet made."""
        return

    def doubts(self, backbone: Backbone, plan: Plan) -> list[str]:
        """Sentences on what the backbone and the techniques mean for each other, for the user to read."""
        return []

    @abstractmethod
    def schema(self, data: Data) -> dict[str, Any]:
        """What ``etude.json`` says of the inputs: plain JSON, enough to read rows for prediction."""

    @abstractmethod
    def describe(self, backbone: Backbone) -> str:
        """The backbone in a few words, for ``etude explain``."""


def table_of(rows: Sequence[Any]) -> Table:
    """Return rows from Python as a table; they are counted from 0 there.

    Raises:
        DataError: not all are mappings.
    """
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(
                f"row {number} is {row!r} and others are mappings; give all rows in one way, as mappings "
                "from columns to cells"
            )
    columns = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row.get(name) for row in rows] for name in columns}
    return Table("the list of rows", values, range(len(rows)))
