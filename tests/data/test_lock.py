"""The lock: closed until the final scoring opens it, and opened nowhere else."""

import re
from pathlib import Path

import pytest

import etude
from etude.data.lock import Locked
from etude.errors import RunError


def test_a_locked_part_tells_its_rows_and_nothing_else() -> None:
    part = Locked(["secret", "words"])
    assert len(part) == 2
    assert repr(part) == "Locked(2 rows, locked)"
    for attempt in (part.open, part.open):
        with pytest.raises(
            RunError,
            match=r"^the test part is locked until the final scoring, so that nothing can be fitted to it; "
            r"use the validation part$",
        ):
            attempt()
    part.unlock()
    assert part.open() == ["secret", "words"]
    assert repr(part) == "Locked(2 rows, open)"


def test_only_final_scorings_unlock() -> None:
    source = Path(etude.__file__).parent
    unlocking = [
        file.relative_to(source).as_posix()
        for file in source.rglob("*.py")
        if re.search(r"\.unlock\(\)", file.read_text(encoding="utf-8").replace(">>> test.unlock()", ""))
    ]
    assert sorted(unlocking) == ["runs/baseline.py", "runs/judge.py", "search/test_part.py"]
