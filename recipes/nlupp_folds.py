"""Cut NLU++ into the official "large" setting: folds 0 and 1 are the test part, the other 18 train.

python recipes/nlupp_folds.py data/nlupp_banking/data.jsonl build/nlupp_banking
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Write train.jsonl and test.jsonl into the folder that the second argument names."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    lines = source.read_text(encoding="utf-8").splitlines()
    for part, chosen in (("test", {0, 1}), ("train", set(range(2, 20)))):
        kept = [line for line in lines if json.loads(line)["fold"] in chosen]
        (folder / f"{part}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
