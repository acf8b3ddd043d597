"""Where memory does not suffice the micro-batch shrinks, and the result stays what it was."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etude.core.observe import Reporter
from etude.errors import RunError
from etude.techniques import technique_class
from etude.testing.harness import Setup, make_engine, train, weights
from etude.testing.technique_suite import difference

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
]


class Told(Reporter):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def train_in_little_memory(
    recipe: Any, setup: Setup, n_rows: int, error: BaseException, told: Reporter
) -> tuple[dict[str, Tensor], int]:
    """Train with a head that has room for ``n_rows`` rows, and return the weights and the last size."""
    engine = make_engine(recipe, setup, reporter=told)

    def refuse(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > n_rows:
            raise error

    engine.backbone.head.register_forward_pre_hook(refuse)
    engine.fit()
    return weights(engine), engine.state()["engine"]["micro_batch_size"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_the_micro_batch_is_halved_until_it_fits(error: BaseException) -> None:
    told = Told()
    found, size = train_in_little_memory({}, Setup("table", dropout=0.3), 3, error, told)
    assert size == 2
    assert told.warnings == [
        f"out of memory: the micro-batch is now {n} rows; the batch of 8 rows and its result stay as they "
        "were"
        for n in (4, 2)
    ]
    assert difference(found, train({}, Setup("table", dropout=0.3, micro_batch_size=2))) == 0


@pytest.mark.parametrize("name", ["sam", "hard_examples", "ema", "hidden_mixup"])
def test_a_failed_attempt_leaves_no_trace(name: str) -> None:
    recipe = {technique_class(name): {}}
    found, size = train_in_little_memory(recipe, Setup(), 2, ERRORS[0], Told())
    assert size == 2
    assert difference(found, train(recipe, Setup(micro_batch_size=2))) == 0


def test_no_room_for_one_row_is_an_error() -> None:
    with pytest.raises(RunError, match=r"does not suffice for one row; lower backbone\.max_length"):
        train_in_little_memory({}, Setup("table"), 0, ERRORS[0], Told())


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        train_in_little_memory({}, Setup("table"), 0, RuntimeError("shapes differ"), Told())
