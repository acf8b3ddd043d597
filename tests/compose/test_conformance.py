"""Every technique of the catalogue passes every check of the suite, and a broken one fails it."""

import pytest

from etude.techniques import catalogue
from etude.testing import technique_suite as suite

EVERY = catalogue()


@pytest.mark.parametrize("check", suite.all_checks(), ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", EVERY)
def test_conforms(name: str, check: suite.Check) -> None:
    check(EVERY[name])


def test_nothing_is_left_out() -> None:
    assert len(EVERY) >= 114
    assert sum(technique.facts.neutral is not None for technique in EVERY.values()) >= 63
    assert sum(technique.facts.split_invariant for technique in EVERY.values()) >= 102
    assert sum(len(list(suite.outside_of_bounds(technique))) for technique in EVERY.values()) >= 500
    written = {name for name in vars(suite) if name.startswith("check_")}
    assert {check.__name__ for check in suite.all_checks()} == written
    assert len(written) == 13


def test_every_setup_is_each_task_on_each_backbone() -> None:
    assert len({(setup.modality, setup.kind) for setup in suite.every_setup()}) == 6
