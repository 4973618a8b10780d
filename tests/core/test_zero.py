"""ZeRO-2 and ZeRO-3 on two processes, one of which has no face, no map and no prompt."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.launch
@pytest.mark.parametrize("stage", [2, 3])
def test_two_ranks_with_different_batches_train_as_one_process(stage: int) -> None:
    """No rank waits for another, and the weights are those of one process that has both batches."""
    pytest.importorskip("deepspeed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    result = subprocess.run(
        [*start, "-m", "tests.core.zero_worker", str(stage)], cwd=REPO, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    assert result.stdout.count("equal") == 4
