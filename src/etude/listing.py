"""The catalogue for readers: techniques by family, a card, and a table of settings."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from pydantic.fields import FieldInfo
from rich import box
from rich.table import Table
from rich.text import Text

from etude.config.explain import default_in_words, search_range, takes, unit
from etude.core.technique import Technique
from etude.errors import ConfigError, closest
from etude.techniques import catalogue, technique_class


def list_techniques(family: str | None = None) -> list[dict[str, Any]]:
    """Return one row for each technique, sorted by family, phase and name.

    Args:
        family: only this family; all if absent.

    Raises:
        ConfigError: there is no such family.
    """
    rows = [_row(technique) for technique in catalogue().values()]
    families = sorted({row["family"] for row in rows})
    if family is not None and family not in families:
        raise ConfigError(
            f"there is no family '{family}'{closest(family, families)} (families: {', '.join(families)})"
        )
    # The catalogue comes in the order of the phases, and a stable sort keeps it inside a family.
    return sorted((row for row in rows if family in (None, row["family"])), key=lambda row: row["family"])


def _row(technique: type[Technique[Any]]) -> dict[str, Any]:
    facts = technique.facts
    title, colon, summary = technique.summary().partition(": ")
    return {
        "name": technique.key(),
        "family": facts.family,
        "phase": facts.phase.name,
        "passes": facts.passes,
        "tasks": sorted(facts.tasks),
        "summary": summary if colon else title,
        "paper": facts.paper,
    }


def technique_table(rows: list[dict[str, Any]]) -> Table:
    """Lay the rows out as a table, grouped by family."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("technique", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    table.add_column("passes", justify="right")
    table.add_column("what it does", ratio=3)
    table.add_column("paper", ratio=2)
    for family, members in groupby(rows, key=lambda row: row["family"]):
        table.add_row(Text(family, style="bold"))
        for row in members:
            table.add_row(
                f"  {row['name']}",
                row["phase"],
                f"{row['passes']:g}",
                Text(row["summary"]),
                Text(row["paper"]),
            )
        table.add_section()
    return table


def card(name: str) -> Text:
    """Return a technique's card; raises :class:`ConfigError` with the closest name."""
    return Text(technique_class(name).card() + "\n")


def settings_table(name: str) -> Table:
    """Return a technique's settings as its config class declares them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("takes", ratio=2)
    table.add_column("default", no_wrap=True)
    table.add_column("search range")
    table.add_column("meaning", ratio=3)
    for key, field in technique_class(name).Config.model_fields.items():
        if key != "name":
            table.add_row(key, *(Text(words) for words in _setting(field)))
    return table


def _setting(field: FieldInfo) -> tuple[str, str, str, str]:
    kind = takes(field.annotation, field.metadata)
    in_unit = f" ({unit(field)})" if unit(field) else ""
    return kind + in_unit, default_in_words(field), search_range(field), field.description or ""
