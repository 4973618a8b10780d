"""A process that has imported what a training needs, and forks the ranks of one run after another from itself.

Two ranks started by torchrun would import torch, transformers and deepspeed anew for every run: ten seconds of CPU.
Reads one job a line from stdin: ``{"argv": [...], "env": {...}, "world": 2, "logs": FOLDER, "seconds": 120}``;
answers with the exit codes of its ranks. A rank leaves as any Python program does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

IMPORTED = (
    "torch.distributed.fsdp",
    "transformers.trainer",
    "accelerate",
    "deepspeed",
    "llava_face_plugin.hosts.hf.model",
)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what packages print while they are imported is no answer
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # else a rank would copy all of it when it is collected at its exit
    for line in sys.stdin:
        job = json.loads(line)
        ranks = [start(job, rank) for rank in range(job["world"])]
        codes = wait(ranks, job["seconds"])
        answers.write(json.dumps(codes) + "\n")


def start(job: dict[str, Any], rank: int) -> int:
    """The process id of a new rank; in the rank itself it does not return."""
    process = os.fork()
    if process:
        return process
    log = os.open(Path(job["logs"]) / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["world"], "LOCAL_WORLD_SIZE": job["world"]}
    if job["world"] > 1:
        os.environ.update({key: str(value) for key, value in place.items()})
    os.environ.update(job["env"])
    sys.argv = list(job["argv"])
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()


def wait(ranks: list[int], seconds: float) -> list[int]:
    """Exit codes, a signal's as its negative number. When one has failed or time is up the others are killed."""
    codes: dict[int, int] = {}
    end = time.monotonic() + seconds
    while len(codes) < len(ranks):
        for rank in ranks:
            if rank not in codes:
                found, status = os.waitpid(rank, os.WNOHANG)
                if found:
                    codes[rank] = os.waitstatus_to_exitcode(status)
                    end = min(end, time.monotonic() + 15) if codes[rank] else end
        if time.monotonic() > end:
            for rank in set(ranks) - set(codes):
                os.kill(rank, signal.SIGKILL)
            end = float("inf")
        time.sleep(0.02)
    return [codes[rank] for rank in ranks]


if __name__ == "__main__":
    main()
