"""``llava-face eval`` and ``report`` as a user calls them."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from pathlib import Path

import pytest
from eval_samples import YES, write_questions, write_result
from typer.testing import CliRunner, Result

from llava_face_plugin.cli.main import app
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.evaluation import run
from llava_face_plugin.evaluation.results import RESULTS

needs_lmms = pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="needs the extra eval")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Stands in for the run: what it was called with; set ``failed`` or ``raises`` for another end."""
    monkeypatch.setattr(run.lmms_process.importlib.util, "find_spec", lambda name: object())
    write_questions(tmp_path, images=4)
    given: dict = {"failed": {}, "raises": None, "signal": None}

    def evaluate(jobs, model, out, settings, display, *, resume):
        given.update(jobs=jobs, model=model, out=out, settings=settings, resume=resume)
        if given["raises"]:
            raise given["raises"]
        if given["signal"]:
            os.kill(os.getpid(), given["signal"])
            time.sleep(60)  # the signal ends it
        logs = [out / f"{task}.log" for task in given["failed"]]
        return run.Outcome(done=["face_made"], failed=given["failed"], logs=logs)

    monkeypatch.setattr(run, "evaluate", evaluate)
    return given


def test_options_reach_the_run(finished: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_EVAL_DATA", str(tmp_path))
    done = call(
        "eval", "--tasks", "face_made,", "--out", tmp_path / "o", "--runner", "vllm", "--model-args", "a=1,",
        "--device", "cpu", "--batch-size", 4, "--limit", 3, "--processes", 2, "--no-resume",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert finished["settings"] == run.Settings("cpu", 4, 3, 2) and finished["model"] == run.Model("vllm", None, "a=1")
    assert [len(job.asked) for job in finished["jobs"]] == [3] and finished["resume"] is False
    assert "1 run, 0 already there, 0 failed" in done.output and "--limit 3: not a result" in done.output


def test_ends(finished: dict, tmp_path: Path) -> None:
    line = ("eval", "--tasks", "face_made", "--out", tmp_path / "o", "--runner", "dummy", "--questions", tmp_path)
    finished["failed"] = {"face_made": "why"}
    done = call(*line)
    assert done.exit_code == 1 and f"failed: face_made; logs: {tmp_path / 'o' / 'face_made.log'}" in done.output
    finished["raises"] = KeyboardInterrupt()
    done = call(*line)
    assert done.exit_code == 130 and "finished tasks are kept" in done.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_as_an_interrupt(finished: dict, tmp_path: Path, number: signal.Signals) -> None:
    finished["signal"] = number
    before = signal.signal(number, signal.SIG_DFL)
    try:
        done = call(
            "eval", "--tasks", "face_made", "--out", tmp_path / "o", "--runner", "dummy", "--questions", tmp_path
        )
        assert done.exit_code == 130 and "finished tasks are kept" in done.output
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_nohup_is_left_alone(finished: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished["signal"] = signal.SIGHUP
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = call(
            "eval", "--tasks", "face_made", "--out", tmp_path / "o", "--runner", "dummy", "--questions", tmp_path
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.exit_code == 0, done.output


def test_errors_of_eval(finished: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACE_EVAL_DATA", raising=False)
    line = ("eval", "--runner", "dummy", "--out", tmp_path / "o", "--tasks")
    for arguments, kind, message in (
        ((",",), FaceConfigError, "no task named"),
        (("face_mad",), FaceConfigError, "did you mean 'face_made'"),
        (("face_made",), FaceDataError, "FACE_EVAL_DATA is not set"),
        (("face_made", "--model", tmp_path / "absent"), FaceConfigError, "no such model directory"),
        (("face_made", "--include", tmp_path / "absent"), FaceDataError, "no such folder of tasks"),
    ):
        done = call(*line, *arguments)
        assert isinstance(done.exception, kind) and message in str(done.exception)
    assert "jobs" not in finished


def test_report(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    questions = write_questions(tmp_path, images=6)
    a = write_result(tmp_path / "a", questions, YES)
    b = write_result(tmp_path / "b", questions, lambda d: d["answer"][0])
    done = call("report", a, b, "--names", "old,new")
    assert done.exit_code == 0, done.exception
    assert "new  face_made  face_acc_score 1.0000" in done.output
    assert "face_made  new - old: +0.6667" in done.output
    assert (a / "report" / "report.html").is_file() and (a / "report" / "plots" / "overview.png").is_file()
    assert call("report", a, "--no-plots", "--out", tmp_path / "r").exit_code == 0
    assert not (tmp_path / "r" / "plots").exists()


def test_errors_of_report(tmp_path: Path) -> None:
    done = call("report", tmp_path)
    assert isinstance(done.exception, FaceDataError) and "no results in it" in str(done.exception)
    out = write_result(tmp_path / "a", write_questions(tmp_path, images=4), YES)
    (out / "face_made" / RESULTS).write_text("{}")
    done = call("report", out)
    assert isinstance(done.exception, FaceDataError) and "results.json: no results of face_made" in str(done.exception)
    assert not (out / "report").exists()


@needs_lmms
def test_from_questions_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way with lmms-eval's dummy model, which answers all with no."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    write_questions(tmp_path, images=4)
    done = call(
        "eval", "--tasks", "face_made", "--runner", "dummy", "--model-args", "response=No", "--questions", tmp_path,
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    done = call("report", tmp_path / "o", "--no-plots")
    # Yes are Smiling of images 0 and 3 and Bald of image 2: three of eight.
    assert "face_made  face_acc_score 0.6250" in done.output
