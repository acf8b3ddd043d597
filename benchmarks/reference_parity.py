"""How far techniques are from their references in float64: one table of all of ``parity/*.py``.

Run it with ``python benchmarks/reference_parity.py``; it prints the table, writes
``benchmarks/results/reference_parity.json`` and exits with 1 where a difference is above 1e-10 without a
reason. Each file of ``parity/`` has a function ``rows()`` that yields (technique, reference in words,
largest absolute difference), and a fourth element, the reason, where float64 cannot be had.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from etude.runs.folder import environment

LIMIT = 1e-10
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; ``reason`` says why its difference may be above the limit."""

    family: str
    technique: str
    reference: str
    difference: float
    reason: str = ""

    @property
    def fails(self) -> bool:
        """Whether the difference is too large, or no number, and nothing explains it."""
        return not self.difference <= LIMIT and not self.reason


def measure(folder: Path) -> Iterator[Row]:
    """Yield the rows of every file of a folder, family by family."""
    for path in sorted(folder.glob("*.py")):
        for row in runpy.run_path(str(path))["rows"]():
            yield Row(path.stem, *row)


def show(rows: Sequence[Row]) -> None:
    """Print the table and its summary."""
    name = max(len(row.technique) for row in rows)
    words = max(len(row.reference) for row in rows)
    for row in rows:
        said = "  FAILS" if row.fails else f"  ({row.reason})" if row.reason else ""
        print(f"{row.technique:{name}}  {row.reference:{words}}  {row.difference:.1e}{said}")
    exact = [row.difference for row in rows if not row.reason]
    print(
        f"{len(rows)} comparisons of {len({row.technique for row in rows})} techniques; "
        f"largest difference in float64 {max(exact, default=0.0):.1e}; "
        f"{sum(row.fails for row in rows)} above {LIMIT:g}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "parity")
    parser.add_argument("--output", type=Path, default=HERE / "results/reference_parity.json")
    given = parser.parse_args(arguments)
    rows = list(measure(given.folder))
    if not rows:
        print(f"no comparison was found in {given.folder}", file=sys.stderr)
        return 1
    show(rows)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"limit": LIMIT, "rows": [asdict(row) for row in rows], "environment": environment(0)}
    given.output.write_text(json.dumps(result, indent=2) + "\n")
    return int(any(row.fails for row in rows))


if __name__ == "__main__":
    sys.exit(main())
