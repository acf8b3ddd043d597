"""Write docs/catalogue.md from the techniques' cards: python docs/build_catalogue.py."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from etude.core.technique import Technique
from etude.techniques import catalogue

HEAD = """# Catalogue

Every technique with its card, by family. This page is made from the cards in the source files by
`python docs/build_catalogue.py`; `etude show NAME` prints the same with the settings.
"""


def page() -> str:
    """Return the whole page."""
    techniques = sorted(catalogue().values(), key=lambda t: (t.facts.family, t.key()))
    parts = [HEAD]
    for family, members in groupby(techniques, key=lambda t: t.facts.family):
        parts.append(f"\n## {family}\n")
        parts.extend(_section(technique) for technique in members)
    return "".join(parts)


def _section(technique: type[Technique[Any]]) -> str:
    facts = technique.facts
    rows = "".join(
        f"| `{name}` | {field.default!r} | {field.description} |\n"
        for name, field in technique.Config.model_fields.items()
        if name != "name"
    )
    table = f"\n| setting | default | what it says |\n|---|---|---|\n{rows}" if rows else ""
    return (
        f"\n### {technique.key()}\n\nPhase `{facts.phase.name}`, {facts.passes:g} pass(es).\n\n"
        f"```text\n{technique.card()}\n```\n{table}"
    )


if __name__ == "__main__":
    (Path(__file__).parent / "catalogue.md").write_text(page(), encoding="utf-8")
