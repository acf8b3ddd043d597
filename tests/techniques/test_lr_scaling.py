"""The linear rule and the square root, whatever the micro-batches."""

import pytest

from etude.techniques.groups.lr_scaling import LrScaling, batch_factor
from etude.testing.harness import Setup, make_engine


def test_linear_rule_of_goyal_et_al() -> None:
    """A rate of 0.1 at 256 images is one of 3.2 at 8192."""
    assert 0.1 * batch_factor(8192, 256, 1.0) == pytest.approx(3.2)


@pytest.mark.parametrize("micro", [None, 2])
def test_the_rows_of_a_step_count_however_they_are_cut(micro: int | None) -> None:
    setup = Setup(batch_size=8, micro_batch_size=micro)
    (group,) = make_engine({LrScaling: {"reference": 32, "power": 0.5}}, setup).groups
    assert group.lr == pytest.approx(0.01 / 2)


def test_the_same_batch_size_is_absent() -> None:
    assert "lr_scaling" not in make_engine({LrScaling: {"reference": 8}}, Setup()).plan.describe()


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match="the batch sizes are 8 and 0 and must be above 0"):
        batch_factor(8, 0, 1.0)
