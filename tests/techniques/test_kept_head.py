"""The kept head: the saved weights, whatever the seed, and the recommended probe aside."""

import pytest
import torch
from torch import nn

from etude.config.load import parse_config
from etude.core.task import Multiclass
from etude.errors import ConflictError
from etude.runs.resolve import resolve_techniques
from etude.techniques import technique_class
from etude.techniques.heads.kept_head import copy_head
from etude.testing.harness import TEACHER_SEED, Setup, make_engine
from etude.testing.tiny import tiny_backbone


def test_the_run_starts_with_the_saved_head() -> None:
    kept = make_engine({technique_class("kept_head"): {}}, Setup())
    saved = tiny_backbone("text", kept.plan.context.task, seed=TEACHER_SEED).head.state_dict()
    found, fresh = kept.backbone.head.state_dict(), make_engine({}, Setup()).backbone.head.state_dict()
    assert all(torch.equal(found[name], value) for name, value in saved.items())
    assert not all(torch.equal(fresh[name], value) for name, value in saved.items())


def test_what_is_under_the_head_is_the_run_s_own() -> None:
    kept, plain = make_engine({technique_class("kept_head"): {}}, Setup()), make_engine({}, Setup())
    own = plain.backbone.state_dict()
    different = [n for n, v in kept.backbone.state_dict().items() if not torch.equal(v, own[n])]
    assert different
    assert all(name.startswith("head.") for name in different)


def test_a_head_of_another_shape_is_refused() -> None:
    with pytest.raises(
        ConflictError, match=r"saved in runs/a is a Linear of 3x4 and this run's is a Linear of 2x4; give"
    ):
        copy_head(nn.Linear(4, 3), nn.Linear(4, 2), "runs/a")


def test_the_recommended_probe_steps_aside() -> None:
    said = {"data": {"train": "a.csv"}, "techniques": {"kept_head": {"model": "runs/a"}}}
    names = {t.key() for t in resolve_techniques(parse_config(said), Multiclass(["a", "b"]))}
    assert "kept_head" in names
    assert "linear_probe" not in names
