"""Advice follows from evidence, and names techniques and keys that exist."""

import tomllib
from typing import Any

import pytest

from etude.config.load import merge, parse_config
from etude.core.task import Kind, make_task
from etude.diagnosis import Evidence, Verdict, what_next
from etude.diagnosis.advice import _RULES
from etude.diagnosis.questions import QUESTIONS
from etude.runs.resolve import resolve_techniques

CONFIG: dict[str, Any] = {
    "data": {"train": "a.csv"},
    "train": {"epochs": 4},
    "optimizer": {"name": "adamw", "lr": 1e-4},
}
BAD: dict[str, list[dict[str, Any]]] = {
    "convergence": [{"fall": 0.5}, {"fall": -0.1}, {"broken": 3}],
    "fit": [{"gap": [0.1, 0.05, 0.15], "loss_risen": 0.2}, {"gap": [0.0, -0.02, 0.02]}, {"loss_risen": 0.3}],
    "baselines": [{}],
    "failures": [{"doubtful": 12}],
    "confusion": [{}],
    "best_epoch": [{"epochs": 3}],
    "dynamics": [
        {"findings": ["Gradients exploded: x", "The gradient norm jumped"]},
        {"findings": ["Large updates of 'head'", "Small updates of 'body'"]},
    ],
    "calibration": [{}],
    "thresholds": [{}],
    "labels": [{}],
    "rows": [{"never_learned": 30, "rows": 1000}],
}


def evidence(kind: Kind = "multiclass", **changes: Any) -> Evidence:
    """What is known of a run whose config leaves every advised setting to be changed."""
    task = make_task(kind, ["a", "b"] if kind == "binary" else ["a", "b", "c"])
    changes = {"decision": {"thresholds": "top_k"}, **changes}
    return Evidence(task, config=parse_config(merge(CONFIG, changes)))


def verdict(step: str, facts: dict[str, Any], status: Any = "bad") -> Verdict:
    return Verdict(step, "?", status, f"because of {step}.", facts)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "binary"])
@pytest.mark.parametrize(
    ("step", "facts"), [(step, facts) for step, several in BAD.items() for facts in several]
)
@pytest.mark.parametrize("status", ["look", "bad"])
def test_every_snippet_loads_and_every_technique_exists(
    kind: Kind, step: str, facts: dict[str, Any], status: str
) -> None:
    found = what_next([verdict(step, facts, status)], evidence(kind))
    assert found
    for advice in found:
        assert advice.why == f"because of {step}."
        assert advice.config or advice.command
        config = parse_config(merge(CONFIG, tomllib.loads(advice.config)))
        assert resolve_techniques(config, make_task(kind, ["a", "b"]))


def test_every_question_has_a_rule() -> None:
    steps = {question(evidence()).step for question in QUESTIONS}
    assert steps == set(_RULES) == set(BAD)


def test_commands_exist() -> None:
    from etude import cli

    known = {
        command.name or (command.callback and command.callback.__name__)
        for command in cli.app.registered_commands
    }
    for step, several in BAD.items():
        for advice in what_next([verdict(step, facts) for facts in several], evidence()):
            if advice.command:
                assert advice.command.split()[0] == "etude"
                assert advice.command.split()[1].replace("-", "_") in {
                    str(name).replace("-", "_") for name in known
                }


def test_good_and_unknown_verdicts_ask_for_nothing() -> None:
    verdicts = [
        verdict(step, facts[0], status) for step, facts in BAD.items() for status in ("good", "unknown")
    ]
    assert what_next(verdicts, evidence()) == []


def test_numbers_follow_from_the_run() -> None:
    (longer,) = what_next([verdict("convergence", {"fall": 0.5}, "look")], evidence())
    assert tomllib.loads(longer.config) == {"train": {"epochs": 6}}
    lower = what_next([verdict("convergence", {"fall": -0.1})], evidence())[0]
    assert tomllib.loads(lower.config)["optimizer"] == {"name": "adamw", "lr": 3.3e-5}
    default = Evidence(make_task("multiclass", ["a", "b"]), config=parse_config({"data": {"train": "a.csv"}}))
    lower = what_next([verdict("convergence", {"fall": -0.1})], default)[0]
    assert 0 < tomllib.loads(lower.config)["optimizer"]["lr"] < 1e-3
    again = what_next([verdict("best_epoch", {"epochs": 3})], evidence())[0]
    assert (again.config, again.command) == ("[train]\nepochs = 3\n", "etude retrain --epochs-from RUN")


def test_without_the_run_what_depends_on_it_is_left_out() -> None:
    verdicts = [verdict(step, facts) for step, several in BAD.items() for facts in several]
    assert {advice.step for advice in what_next(verdicts)} == set(BAD)
    assert all("lr =" not in advice.config for advice in what_next(verdicts))


def test_what_the_run_has_is_not_advised_again() -> None:
    said = [verdict("confusion", {})]
    assert len(what_next(said, evidence())) == 1
    assert what_next(said, evidence(techniques={"supervised_contrastive": {}})) == []
    worse = [verdict("thresholds", {})]
    assert what_next(worse, evidence(decision={"thresholds": "auto"})) == []
    assert what_next(worse, evidence("multilabel", decision={"thresholds": "global"})) == []


@pytest.mark.parametrize("facts", [{}, {"gap": None}, {"gap": [None]}, {"epochs": "x", "rows": None}])
def test_evidence_that_was_damaged_on_disk_breaks_nothing(facts: dict[str, Any]) -> None:
    for advice in what_next([verdict(step, facts) for step in BAD], evidence()):
        parse_config(merge(CONFIG, tomllib.loads(advice.config)))


def test_no_more_epochs_for_a_model_that_overfits() -> None:
    falls = verdict("convergence", {"fall": 0.5}, "look")
    assert len(what_next([falls], evidence())) == 1
    for against in (verdict("fit", {"gap": [0.1, 0.05, 0.15]}, "look"), verdict("best_epoch", {"epochs": 2})):
        titles = {advice.title for advice in what_next([falls, against], evidence())}
        assert "Train for more epochs" not in titles


def test_bad_verdicts_come_first_and_nothing_twice() -> None:
    verdicts = [verdict("labels", {}, "look"), verdict("calibration", {}), verdict("calibration", {})]
    found = what_next(verdicts, evidence())
    assert [advice.step for advice in found] == ["calibration", "calibration", "labels"]
    assert set(found[0].to_json()) == {"step", "title", "why", "config", "command"}
