"""A video task from a copy in CelebV-HQ's layout to answers, through lmms-eval's own command and ``face_llava``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import mended_torchvision  # noqa: F401 (before transformers)

pytest.importorskip("transformers", minversion="4.55", reason="this family needs 4.55")
pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
pytest.importorskip("pyarrow", reason="manifests are parquet")

import torch
import transformers
from face_llava_models import Request
from test_face_llava_families import needs_torchvision, write
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.data.datasets.celebvhq import ACTION, APPEARANCE
from llava_face_plugin.data.made_video import plan_clips, render_clip
from llava_face_plugin.evaluation import scoring
from llava_face_plugin.evaluation.model.face_llava import FaceLlavaChat
from llava_face_plugin.evaluation.questions import load_questions
from llava_face_plugin.evaluation.tasks import task_folder
from llava_face_plugin.switch import enable
from llava_face_plugin.video.write import can_write_mp4, write_mp4

pytestmark = [needs_torchvision, pytest.mark.skipif(not can_write_mp4(), reason="neither PyAV nor OpenCV is installed")]

SHAPE = {"width": 32, "depth": 4, "heads": 4, "hidden": 64, "patch": 14}
LIMIT = 24
GENERATION = {"max_new_tokens": 16, "temperature": 0, "do_sample": False, "num_beams": 1}
_MAIN = "from tests import mended_torchvision; from lmms_eval.__main__ import cli_evaluate; cli_evaluate()"


def write_celebvhq(root: Path) -> None:
    """24 drawn clips of 12 YouTube videos, with labels of no meaning."""
    rng, clips = np.random.default_rng(0), {}
    folder = root / "downloaded_celebvhq/processed"
    drawn = [render_clip(clip, (64, 80))[0] for clip in plan_clips(4, 0, 9)]
    for i in range(24):
        name = f"M2Ohb0FA{i // 2:03d}_{i % 2}"
        labels = {"appearance": rng.integers(0, 2, 40).tolist(), "action": rng.integers(0, 2, 35).tolist(),
                  "emotion": {"sep_flag": False, "labels": "happy"}}  # fmt: skip
        clips[name] = {"ytb_id": name[:-2], "duration": {"start_sec": 0, "end_sec": 3}, "attributes": labels,
                       "bbox": {"top": 0, "bottom": 1, "left": 0, "right": 1}}  # fmt: skip
        write_mp4(folder / f"{name}.mp4", drawn[i % 4], 4)
    info = {"meta_info": {"appearance_mapping": list(APPEARANCE), "action_mapping": list(ACTION)}, "clips": clips}
    (root / "celebvhq_info.json").write_text(json.dumps(info))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny LlavaOnevision with the preset favchat, whose branch has a say."""
    out = tmp_path / "favchat"
    facial = {"path": None, "trained": True, "taps": [0, 1, 3], "size": 56, "vit": SHAPE}
    enable(write("llava_onevision", tmp_path / "plain"), preset="favchat", settings={"facial": facial}, out=out)
    from llava_face_plugin.hosts import hf  # noqa: F401

    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(out)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.face.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(out)
    return out


def done(*arguments: str | Path) -> None:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output + str(result.exception)


def test_from_clips_to_answers(checkpoint: Path, tmp_path: Path) -> None:
    data, prepared, asked, out = (tmp_path / name for name in ("data", "prepared", "questions", "results"))
    write_celebvhq(data)
    done("prepare", "celebvhq", "--root", data, "--out", prepared, "--labels-only")
    done("questions", "face_celebvhq", "--manifest", prepared, "--root", data, "--out", asked, "--set", "media=video")
    command = [
        "lmms-eval", "--model", "face_llava", "--tasks", "face_celebvhq", "--include_path", str(task_folder()),
        "--model_args", f"pretrained={checkpoint},device=cpu,video_frames=4", "--batch_size", "1",
        "--limit", str(LIMIT), "--output_path", str(out), "--log_samples",
    ]  # fmt: skip
    environment = {**os.environ, "FACE_EVAL_DATA": str(asked), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"),
                   "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    code = f"import sys; sys.argv = {command!r}; {_MAIN}"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    (path,) = out.rglob("*_samples_face_celebvhq.jsonl")
    answers = {row["doc_id"]: row["filtered_resps"] for row in map(json.loads, path.read_text().splitlines())}
    assert len(answers) == LIMIT

    rows = load_questions(asked / "face_celebvhq.parquet")[1].to_pylist()[:LIMIT]
    assert all(row["video"].endswith(".mp4") and not row["images"] for row in rows)
    model = FaceLlavaChat(pretrained=str(checkpoint), device="cpu", video_frames=4, exact=True)
    model.task_dict["t"] = {"test": [{**row, "image_root": str(data)} for row in rows]}
    post = {"post_prompt": " Answer yes or no."}
    requests = [
        Request(scoring.doc_to_text(row, post), lambda doc: scoring.doc_to_messages(doc, post), dict(GENERATION), i,
                "t", "test")
        for i, row in enumerate(rows)
    ]  # fmt: skip
    expected = [result.text.strip() for result in model.generate_until(requests)]
    shown = [answers[i] if isinstance(answers[i], str) else answers[i][0] for i in range(LIMIT)]
    assert [answer.strip() for answer in shown] == expected and len(set(expected)) > 1
