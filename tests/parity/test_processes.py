"""Two real processes that talk over gloo end with the weights of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file
from worker import CASES, run_case

from etude.testing.technique_suite import difference

TOGETHER = 2
TIMEOUT = 120  # seconds, ten times what it takes


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def train_together(folder: Path) -> None:
    """Let two processes train every case and leave the weights in the folder."""
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(TOGETHER),
        "LOCAL_WORLD_SIZE": str(TOGETHER),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(folder)]
    logs = [folder / f"process{rank}.log" for rank in range(TOGETHER)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as output:
            mine = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(subprocess.Popen(command, env=mine, stdout=output, stderr=output))
    try:
        codes = [process.wait(timeout=TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0] * TOGETHER, "\n".join(log.read_text() for log in logs)[-4000:]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """One test for all cases, so that the processes are started once."""
    train_together(tmp_path)
    apart = {}
    for case in CASES:
        alone = run_case(case)
        assert "logits" in alone
        apart[case] = difference(load_file(tmp_path / f"{case}.safetensors"), alone)
    assert len(apart) >= 10
    assert {case: found for case, found in apart.items() if not found < 1e-6} == {}
