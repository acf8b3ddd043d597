"""The polynomial decay between the line and the square."""

import pytest

from etude.techniques.schedules.linear import linear_decay
from etude.techniques.schedules.polynomial import PolynomialConfig, polynomial_decay


def test_power_one_is_the_line() -> None:
    shares = [step / 10 for step in range(11)]
    assert [polynomial_decay(p, 1.0) for p in shares] == [linear_decay(p) for p in shares]


def test_poly_policy_of_chen_et_al() -> None:
    assert polynomial_decay(0.5, 0.9) == pytest.approx(0.5358867312681466, abs=1e-15)


def test_it_ends_at_the_last_factor() -> None:
    assert polynomial_decay(1.0, PolynomialConfig().power, final=0.03) == 0.03


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"progress is 1.01 and must lie in \[0, 1\]"):
        polynomial_decay(1.01, 2.0)
