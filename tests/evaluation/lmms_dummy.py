"""Runs of lmms-eval's dummy model in a process of their own: its logging and its registry of tasks are global."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from llava_face_plugin.evaluation.tasks import task_folder

_CODE = """
import argparse, json, sys
from lmms_eval import evaluator
from lmms_eval.tasks import TaskManager
manager = TaskManager("ERROR", include_path=sys.argv[1], include_defaults=False, model_name="dummy")
args = argparse.Namespace(process_with_media=False, reasoning_tags=None, agentic_trace_mode="basic")
found = {}
for task, answer in json.loads(sys.argv[2]).items():
    results = evaluator.simple_evaluate(model="dummy", model_args=f"response={answer}", tasks=[task],
                                        task_manager=manager, batch_size=1, log_samples=False, cli_args=args)
    found[task] = {k.split(",")[0]: v for k, v in results["results"][task].items() if k.endswith(",none")}
print("RESULT" + json.dumps(found))
"""


def run_dummy(answers: Mapping[str, str], folder: Path) -> dict[str, dict[str, float]]:
    """Task -> metric -> figure, for a model that gives each task one answer. Questions: ``folder/questions``."""
    environment = {
        **os.environ, "FACE_EVAL_DATA": str(folder / "questions"), "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", _CODE, str(task_folder()), json.dumps(dict(answers))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT"))
