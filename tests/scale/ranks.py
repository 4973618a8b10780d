"""Runs a script on several ranks of this machine, by ``server.py``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Ranks:
    """Call it with a script and its arguments."""

    def __init__(self, folder: Path) -> None:
        self.errors = folder / "server.log"
        env = {
            **os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "LLAVA_FACE_CPU_DRY_RUN": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            # Without a number: torch.load knows no "cpu:0", as which a Trainer resumes on CPU ranks.
            "ACCELERATE_TORCH_DEVICE": "cpu",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", HERE / "server.py"], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors.open("w"),
        )  # fmt: skip

    def __call__(
        self, argv: Sequence[Any], logs: Path, world: int = 2, env: dict[str, Any] | None = None, seconds: float = 120,
        fails: bool = False,
    ) -> str:  # fmt: skip
        """What all ranks printed. Fails the test unless all of them leave with 0 (or, with ``fails``, not all)."""
        logs.mkdir(parents=True, exist_ok=True)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        job = {
            "argv": [str(part) for part in argv], "logs": str(logs), "world": world, "seconds": seconds,
            "env": {key: str(value) for key, value in {**place, **(env or {})}.items()},
        }  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.errors.read_text()[-4000:]
        codes = json.loads(answer)
        printed = "\n".join((logs / f"rank{rank}.log").read_text() for rank in range(world))
        assert any(codes) == fails, f"exit codes {codes}\n{printed[-6000:]}"
        return printed

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
