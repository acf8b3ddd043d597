"""Checkpoints: whole or not at all, verified, and the newest kept."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from etude.core import checkpoint
from etude.core.checkpoint import checkpoints, flatten, read_checkpoint, save_checkpoint, unflatten
from etude.errors import RunError

STATE = {
    "engine": {"step": 3, "loss": 0.1},
    "model": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(4)},
    "techniques": {"ema": {"shadow.w": torch.ones(2, dtype=torch.float64), "text": "ä"}, "empty": {}},
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_flatten_is_undone() -> None:
    tensors, numbers = flatten(STATE)
    assert set(tensors) == {"model/w", "model/n", "techniques/ema/shadow.w"}
    again = unflatten(tensors, json.loads(json.dumps(numbers)))
    assert again["engine"] == STATE["engine"]
    assert torch.equal(again["model"]["w"], STATE["model"]["w"])
    assert again["techniques"]["ema"]["text"] == "ä"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 3, STATE, keep=2)
    found = read_checkpoint(path)
    assert path.name == "step-00000003"
    assert found["engine"] == STATE["engine"]
    assert found["techniques"]["ema"]["shadow.w"].dtype == torch.float64
    assert found["model"]["n"] == 4


def test_tied_and_strided_tensors_are_written(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    path = save_checkpoint(tmp_path, 1, {"a": tied, "b": tied, "c": tied.T}, keep=1)
    found = read_checkpoint(path)
    assert torch.equal(found["a"], found["b"])
    assert torch.equal(found["c"], tied.T)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9):
        save_checkpoint(tmp_path, step, STATE, keep=2)
    assert names(tmp_path) == ["step-00000009", "step-00000010"]
    assert [path.name for path in checkpoints(tmp_path)] == names(tmp_path)


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, STATE, keep=2)
    path = save_checkpoint(tmp_path, 1, {**STATE, "engine": {"step": 1}}, keep=2)
    assert read_checkpoint(path)["engine"] == {"step": 1}


def test_no_folder_has_no_checkpoints(tmp_path: Path) -> None:
    assert checkpoints(tmp_path / "nowhere") == []


@pytest.mark.parametrize("file", ["state.safetensors", "state.json"])
def test_a_truncated_file_is_refused(tmp_path: Path, file: str) -> None:
    path = save_checkpoint(tmp_path, 3, STATE, keep=2)
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"step-00000003 is truncated or was altered; remove its folder"):
        read_checkpoint(path)


def test_one_altered_byte_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 3, STATE, keep=2)
    content = bytearray((path / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "state.safetensors").write_bytes(content)
    with pytest.raises(RunError, match="was altered"):
        read_checkpoint(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 3, STATE, keep=2)
    (path / "state.json").unlink()
    with pytest.raises(RunError, match="truncated"):
        read_checkpoint(path)


def test_what_a_kill_left_is_no_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, STATE, keep=2)
    left = tmp_path / ".partial-00000004"
    left.mkdir()
    (left / "state.safetensors").write_bytes(b"half")
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003"]
    save_checkpoint(tmp_path, 4, STATE, keep=2)
    assert names(tmp_path) == ["step-00000003", "step-00000004"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; skips where nobody may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


FULL = (
    r"^the checkpoint of step 4 could not be written to .*: the disk is full; earlier checkpoints are intact"
)


def test_a_full_disk_leaves_earlier_checkpoints_alone(small_disk: Path) -> None:
    save_checkpoint(small_disk, 3, STATE, keep=2)
    with pytest.raises(RunError, match=FULL):
        save_checkpoint(small_disk, 4, {"w": torch.zeros(100_000)}, keep=2)
    assert names(small_disk) == ["step-00000003"]
    assert read_checkpoint(small_disk / "step-00000003")["engine"]["step"] == 3


def test_a_disk_that_is_full_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 3, STATE, keep=2)

    def no_room(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoint, "_sync", no_room)
    with pytest.raises(RunError, match=FULL):
        save_checkpoint(tmp_path, 4, STATE, keep=2)
    assert names(tmp_path) == ["step-00000003"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"step 1 could not be written to .*file.*: .*; earlier checkpoints"):
        save_checkpoint(tmp_path / "file", 1, STATE, keep=2)
