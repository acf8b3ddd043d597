"""Spectra of weights: known tails, the numbers of weightwatcher, and matrices that say nothing."""

import numpy as np
import pytest

from etude.diagnosis.spectra import Spectrum, eigenvalues, power_law, reading, spectrum


def matrices() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((256, 128)) / 16).astype(np.float32),
        (rng.standard_t(2.5, (300, 80)) / 10).astype(np.float32),
        (rng.standard_normal((32, 16, 3, 3)) / 8).astype(np.float32),
    ]


@pytest.mark.parametrize("alpha", [1.8, 2.5, 4.0])
def test_a_power_law_is_found_again(alpha: float) -> None:
    draws = np.random.default_rng(1).random(4000)
    tail = (1 - draws) ** (-1 / (alpha - 1))
    found, start, distance = power_law(tail)
    assert found == pytest.approx(alpha, rel=0.08)
    assert start < np.median(tail)
    assert distance < 0.03
    scaled = power_law(7 * tail)
    assert scaled == pytest.approx((found, 7 * start, distance))


def test_the_numbers_are_those_of_weightwatcher() -> None:
    """Version 0.7.7, ``WeightWatcher(model).analyze()``, of the same three layers."""
    names = ("alpha", "xmin", "distance", "log_norm", "log_spectral_norm", "alpha_weighted", "stable_rank")
    wanted = [
        (14.623682, 2.362705, 0.116679, 2.105275, 0.461079, 6.742670, 44.075396),
        (3.048633, 11.776404, 0.105375, 3.011127, 1.780639, 5.428513, 17.001555),
        (2.493367, 0.170809, 0.148663, 1.555885, -0.170194, -0.424355, 53.220502),
    ]
    for weight, numbers in zip(matrices(), wanted, strict=True):
        found = spectrum("layer", weight)
        assert found is not None
        assert [getattr(found, name) for name in names] == pytest.approx(numbers, abs=2e-6)


def test_eigenvalues_are_squared_singular_values() -> None:
    weight = matrices()[1]
    singular = np.linalg.svd(weight, compute_uv=False)
    assert eigenvalues(weight) == pytest.approx(np.sort(singular**2), rel=1e-4)
    assert eigenvalues(weight.T) == pytest.approx(eigenvalues(weight))


@pytest.mark.parametrize(
    "weight",
    [
        np.ones(300),
        np.ones((10, 300)),
        np.zeros((80, 80)),
        np.eye(80),
        np.full((80, 80), np.nan),
        np.ones((80, 90)),
    ],
    ids=["vector", "few", "zeros", "all equal", "not finite", "rank one"],
)
def test_what_has_no_tail_is_left_out(weight: np.ndarray) -> None:
    assert spectrum("layer", weight) is None


def test_the_sentence() -> None:
    found = [spectrum(str(i), weight) for i, weight in enumerate(matrices())]
    known = [s for s in found if isinstance(s, Spectrum)]
    assert [s.verdict for s in known] == ["hardly trained", "good", "good"]
    said = reading(known, 2)
    assert said.startswith("The exponent of 2 of 3 matrices lies between 2 and 6")
    assert "of 1 above 6 (hardly trained); the median is 3.05" in said
    assert "no weight matrices" in reading([], 0)
    assert "4 weight matrices, all with fewer than 50 eigenvalues" in reading([], 4)
    with pytest.raises(ValueError, match="two different values, all of them positive"):
        power_law(np.ones(5))
