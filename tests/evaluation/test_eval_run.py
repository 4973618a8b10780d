"""``llava-face eval`` without its command line: what counts as a result, what is kept, what is run again."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eval_samples import YES, index, lmms_output, write_lmms, write_questions

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.evaluation import lmms_process, run, task_index
from llava_face_plugin.evaluation.lmms_process import Model, Settings
from llava_face_plugin.evaluation.results import LOG, RESULTS, RUN, SAMPLES, read_result
from llava_face_plugin.evaluation.task_index import TaskIndex
from llava_face_plugin.evaluation.tasks import task_folder
from llava_face_plugin.evaluation.working_folders import host

needs_lmms = pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="needs the extra eval")
DUMMY = Model("dummy", None, "response=Yes")
TRACEBACK = (
    "\x1b[31mTraceback (most recent call last):\x1b[0m\n"
    "llava_face_plugin.errors.FaceDataError: question 7: image 7.png: damaged or truncated\n"
    "tenacity.RetryError: RetryError[<Future at 0x1 state=finished raised FaceDataError>]\n"
)
# As llava_hf's, coloured, behind a progress bar, with a message of two lines.
ERROR = (
    "\rModel Responding:  8%%|8 | 1/12 [00:01\x1b[32m2026-01-01 10:00:00\x1b[0m | \x1b[31m\x1b[1mERROR   \x1b[0m | "
    "\x1b[36mllava_hf\x1b[0m:\x1b[36mgenerate_until\x1b[0m:\x1b[36m376\x1b[0m - "
    "\x1b[31m\x1b[1mError CUDA out of memory.\nTried %d GiB in generating\x1b[0m"
)


@dataclass
class Shown:
    """What a user would see; may interrupt."""

    ended: dict[str, str] = field(default_factory=dict)
    answered: Callable[[int], None] = lambda count: None

    def start(self, task: str, total: int) -> None:
        pass

    def end(self, task: str, message: str, failed: bool) -> None:
        self.ended[task] = message


@dataclass
class World:
    """Two tasks of six images, and a stand-in for lmms-eval: ``python -c`` with the code set for a task."""

    folder: Path
    code: dict[str, str] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def jobs(self, *names: str, limit: int | None = None) -> list[run.Job]:
        return run.plan(index(), names or ("face_celeba", "face_made"), self.folder, limit)

    def command(self, model: Model, settings: Settings, task: str, tasks: Path, out: Path) -> list[str]:
        """Copies what lmms-eval would have written, then does ``code``, in which ``out`` is a Path."""
        self.started.append(task)
        made = self.folder / f"made {task}"
        shutil.rmtree(made, ignore_errors=True)
        write_lmms(made, task, *lmms_output(self.folder / f"{task}.parquet", task, YES, settings.limit))
        start = f"import os, pathlib, shutil, sys\nout = pathlib.Path({str(out)!r})\n"
        good = f"shutil.copytree({str(made)!r}, out / 'model')\n"
        return [sys.executable, "-c", start + good + self.code.get(task, "")]

    def evaluate(self, *names: str, model: Model = DUMMY, settings: Settings | None = None, **more) -> run.Outcome:
        settings = settings or Settings()
        self.shown = more.pop("shown", Shown())
        jobs = self.jobs(*names, limit=settings.limit)
        return run.evaluate(jobs, model, self.out, settings, self.shown, command=self.command, **more)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # These tests start nothing of lmms-eval.
    monkeypatch.setattr(lmms_process.importlib.util, "find_spec", lambda name: object())
    for task in ("face_celeba", "face_made"):
        write_questions(tmp_path, task, images=6)
    return World(tmp_path)


def test_results_are_kept_whole(world: World) -> None:
    outcome = world.evaluate()
    assert (outcome.done, outcome.kept, outcome.failed) == (["face_celeba", "face_made"], [], {})
    assert sorted(p.name for p in world.out.iterdir()) == ["face_celeba", "face_made"]
    assert sorted(p.name for p in (world.out / "face_made").iterdir()) == sorted([LOG, RESULTS, RUN, SAMPLES])
    info = read_result(world.out / "face_made").info
    assert info.samples == info.questions.rows == 12 and info.model.args == "response=Yes"
    assert info.questions.digest == world.jobs("face_made")[0].header.digest
    assert (world.out / "face_made").stat().st_mode & 0o777 == 0o755


FAULTS = {
    "nothing written": ("shutil.rmtree(out)", "wrote no results (and exited with 0): no error in the log"),
    "nothing, and why": (f"shutil.rmtree(out); print({TRACEBACK!r})", "question 7: image 7.png: damaged or truncated"),
    "status": ("print('ValueError: no model'); sys.exit(3)", "ended with status 3: ValueError: no model"),
    "killed": ("os.kill(os.getpid(), 9)", "ended with status -9"),
    "samples missing": ("next(out.rglob('*samples*')).unlink()", "wrote no results"),
    "last sample lost": (
        "f = next(out.rglob('*samples*')); f.write_text(''.join(f.read_text().splitlines(True)[:-1]))",
        "1 of 12 questions have no sample, such as '005:Bald'",
    ),
    "cut off": (
        "f = next(out.rglob('*samples*')); f.write_text(f.read_text()[:-100])", "samples.jsonl:12: not JSON",
    ),
    "doubled": (
        "f = next(out.rglob('*samples*')); f.write_text(f.read_text() + f.read_text().splitlines()[0])",
        "samples.jsonl:13: question '000:Smiling' occurs twice",
    ),
    "unknown question": (
        "f = next(out.rglob('*samples*')); t = f.read_text().splitlines(True); f.write_text(''.join(t) + "
        "t[0].replace('000:Smiling', 'x'))", "1 samples are of no question asked, such as 'x'",
    ),
    "another task": (
        "f = next(out.rglob('*samples*')); f.rename(f.with_name(f.name.replace('made', 'lfw')))", "wrote no results",
    ),
    "another task's results": (
        "f = next(out.rglob('*results.json')); f.write_text(f.read_text().replace('face_made', 'mme'))",
        "no results of face_made",
    ),
    "an error for each": (
        f"[print({ERROR!r} % i) for i in range(12)]",
        "failed at 12 of 12 questions and went on with empty answers; the first: CUDA out of memory. Tried 0 GiB",
    ),
    "one error": (f"print({ERROR!r} % 7)", "failed at 1 of 12 questions"),
    "questions changed": ("QUESTIONS", "changed while the task ran"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_is_told_and_the_others_run(world: World, fault: str) -> None:
    code, message = FAULTS[fault]
    if code == "QUESTIONS":
        other = write_questions(world.folder / "other", "face_made", images=5)
        code = f"shutil.copyfile({str(other)!r}, {str(world.folder / 'face_made.parquet')!r})"
    world.code["face_made"] = code
    outcome = world.evaluate("face_made", "face_celeba")
    assert outcome.done == ["face_celeba"] and list(outcome.failed) == ["face_made"]
    assert message in outcome.failed["face_made"] and "RetryError" not in outcome.failed["face_made"]
    assert sorted(p.name for p in world.out.iterdir()) == ["face_celeba", "face_made.log"]
    assert outcome.logs == [world.out / "face_made.log"]
    assert str(outcome.logs[0]) in outcome.failed["face_made"] and "/.face_made." not in outcome.failed["face_made"]


def test_a_later_success_takes_the_log_away(world: World) -> None:
    world.code["face_made"] = "sys.exit(1)"
    world.evaluate()
    world.code.clear()
    assert world.evaluate().done == ["face_made"]
    assert sorted(p.name for p in world.out.iterdir()) == ["face_celeba", "face_made"]


def test_a_failure_leaves_earlier_results(world: World) -> None:
    world.evaluate("face_made")
    before = (world.out / "face_made" / RUN).read_bytes()
    world.code["face_made"] = "sys.exit(1)"
    assert world.evaluate("face_made", resume=False).failed
    assert (world.out / "face_made" / RUN).read_bytes() == before


def test_what_is_there_is_kept_and_what_differs_is_run_again(world: World) -> None:
    world.evaluate()
    world.started.clear()
    assert world.evaluate().kept == ["face_celeba", "face_made"] and not world.started
    assert world.evaluate("face_made", resume=False).done == ["face_made"]
    assert world.evaluate("face_made", settings=Settings(limit=5)).done == ["face_made"]
    assert read_result(world.out / "face_made").info.samples == 5
    assert world.evaluate("face_made", settings=Settings(limit=5, batch_size=4)).kept == ["face_made"]
    assert world.evaluate("face_made", settings=Settings(limit=5, device="cpu")).done == ["face_made"]
    assert "other device than in" in world.shown.ended["face_made"]
    write_questions(world.folder, "face_celeba", images=7)
    assert world.evaluate("face_celeba").done == ["face_celeba"]
    (world.out / "face_celeba" / SAMPLES).unlink()
    assert world.evaluate("face_celeba").done == ["face_celeba"]


def test_models_do_not_mix(world: World, tmp_path: Path) -> None:
    """The same folder name, the same config, other weights."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "weights").write_text("one")
    model = Model("face_llava", directory)
    assert world.evaluate("face_made", model=model).done == ["face_made"]
    assert world.evaluate("face_made", model=model).kept == ["face_made"]
    for other in (DUMMY, Model("face_llava", directory, "exact=True")):
        with pytest.raises(FaceConfigError, match=r"results of another model .*: give each model an --out of its own"):
            world.evaluate("face_celeba", model=other)
    (directory / "weights").write_text("other")
    with pytest.raises(FaceConfigError, match="other files_sha256"):
        world.evaluate("face_celeba", model=model)


def test_an_interrupt_ends_the_process_and_keeps_what_is_done(world: World) -> None:
    pid = world.folder / "pid"
    world.code["face_made"] = f"open({str(pid)!r}, 'w').write(str(os.getpid())); import time; time.sleep(600)"

    def interrupt(count: int) -> None:
        if pid.is_file() and pid.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.evaluate(shown=Shown(answered=interrupt))
    assert [p.name for p in world.out.iterdir()] == ["face_celeba"]  # the working folder is gone
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    world.code.clear()
    assert world.evaluate().kept == ["face_celeba"]


def test_other_images_are_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.evaluate("face_made")
    assert read_result(world.out / "face_made").info.questions.image_root == str(world.folder.resolve())
    other = world.folder / "other"
    other.mkdir()
    link = world.folder / "link"
    link.symlink_to(other)
    monkeypatch.setenv("FACE_EVAL_ROOT", str(link))
    assert world.evaluate("face_made").done == ["face_made"] and "image root" in world.shown.ended["face_made"]
    assert read_result(world.out / "face_made").info.questions.image_root == str(other.resolve())
    monkeypatch.setenv("FACE_EVAL_ROOT", str(other))
    assert world.evaluate("face_made").kept == ["face_made"]


@pytest.mark.parametrize("name", [RESULTS, SAMPLES])
def test_changed_results_are_run_again(world: World, name: str) -> None:
    world.evaluate("face_made")
    path = world.out / "face_made" / name
    path.write_text(path.read_text().replace("Yes", "No") + " ")
    assert world.evaluate("face_made").done == ["face_made"]
    assert f"again: other {name} (by its SHA-256)" in world.shown.ended["face_made"]
    assert read_result(world.out / "face_made").info.samples == 12


def test_other_scoring_is_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.evaluate("face_made")
    monkeypatch.setattr(task_index, "scoring_digest", lambda: "of a mended parser")
    assert world.evaluate("face_made").done == ["face_made"]
    assert "other task or scoring" in world.shown.ended["face_made"]


def test_what_scores_is_in_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("answers", "metrics", "suites", "builders"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(task_index, "__file__", str(tmp_path / "task_index.py"))
    digest = task_index.scoring_digest.__wrapped__
    seen = {digest()}
    scoring = ("answers/number.py", "metrics/a.py", "suites/b.py", "age_scoring.py", "aggregations.py", "questions.py")
    for name in scoring:
        (tmp_path / name).write_text("old")
        seen.add(digest())
        (tmp_path / name).write_text("new")
        seen.add(digest())
    assert len(seen) == 1 + 2 * len(scoring)
    (tmp_path / "builders" / "ages.py").write_text("asks, does not score")
    (tmp_path / "report.py").write_text("")
    assert digest() in seen


def test_files_below_and_beside_the_model_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them, changed alone, is another model."""
    monkeypatch.chdir(tmp_path)
    files = [
        "model/weights", "model/experts/1/weights", "base/weights", "base/tower/weights", "tower/w", "maps/a/1.png",
        "parser.pt", "face.onnx",
    ]  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    parser = {"path": str(tmp_path / "parser.pt"), "detector_path": "face.onnx"}
    face = {"segmentation": {"maps": str(tmp_path / "maps"), "parser": parser}}
    (tmp_path / "model" / "config.json").write_text(json.dumps({"mm_vision_tower": "tower", "face": face}))
    (tmp_path / "base" / "config.json").write_text(json.dumps({"mm_vision_tower": "openai/clip", "face": None}))
    model, out = Model("face_llava", tmp_path / "model", "model_base=base,exact="), tmp_path / "model" / "results"
    known = lmms_process.model_info(model, out)
    for name in files:
        (tmp_path / name).write_text("another")
        changed = lmms_process.model_info(model, out)
        assert changed != known, name
        known = changed
    out.mkdir()
    (out / "samples.jsonl").write_text("results are no weights")
    (tmp_path / "unrelated").write_text("")
    assert lmms_process.model_info(model, out) == known
    assert lmms_process.model_info(DUMMY, out).files_sha256 == ""
    (tmp_path / "base" / "config.json").write_text("{")
    with pytest.raises(FaceDataError, match=r"base/config.json: not JSON"):
        lmms_process.model_info(model, out)


def test_where_the_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmms_process, "_device", lambda: "cuda:0")
    assert Model("face_llava", tmp_path).device(None) == "cuda:0"
    assert Model("llava_hf", tmp_path, "device_map=cpu").device(None) == "cpu"
    assert Model("face_llava", tmp_path).device("cpu") == "cpu"
    assert Model("vllm", None, "model=x").device(None) is None


def test_the_device_is_kept(world: World) -> None:
    world.evaluate("face_made", settings=Settings(device="cuda:1"))
    info = read_result(world.out / "face_made").info
    assert (info.device, info.device_type) == ("cuda:1", "cuda")
    assert world.evaluate("face_made", settings=Settings(device="cuda:0")).kept == ["face_made"]
    assert world.evaluate("face_made", settings=Settings(device="cpu")).done == ["face_made"]


def test_working_folders_of_killed_runs_are_cleared(world: World) -> None:
    world.out.mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    start = f".face_made.{host()}-"
    stale, own, running = (world.out / f"{start}{pid}.x" for pid in (gone.pid, os.getpid(), os.getppid()))
    elsewhere, other_task = world.out / ".face_made.another_host-1.x", world.out / f".face_lfw.{host()}-0.x"
    for folder in (stale, own, running, elsewhere, other_task):
        (folder / "raw").mkdir(parents=True)
    world.evaluate("face_made")
    assert set(world.out.iterdir()) == {running, elsewhere, other_task, world.out / "face_made"}


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_killed_parent_takes_lmms_eval_along(tmp_path: Path) -> None:
    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    code = (
        "import pathlib, sys; from llava_face_plugin.evaluation import lmms_process as p; "
        f"p.run([sys.executable, '-c', {inner!r}], pathlib.Path({str(tmp_path / 'log')!r}), None, lambda n: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    child = _eventually(lambda: (tmp_path / "log").is_file() and (tmp_path / "log").read_text().strip())
    parent.kill()
    parent.wait()
    _eventually(lambda: not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text())


def _eventually(condition: Callable[[], Any]) -> Any:
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("did not happen within a minute")


def test_errors_that_a_runner_caught(tmp_path: Path) -> None:
    log = tmp_path / "log"
    start = "2026-01-01 10:00:00 | ERROR    | a:b:1 - "
    lines = [
        "Error  in generating",
        "Error generating text: no",
        "Error in generating: x",
        "Error during generation: y",
    ]
    log.write_text("".join(f"{start}{line}\n" for line in lines))
    assert lmms_process.unanswered(log) == ["no message", "no", "x", "y"]
    log.write_text(f"{start}Error loading a font\n2026-01-01 10:00:01 | INFO     | a:b:1 - in generating order\n")
    assert lmms_process.unanswered(log) == []


def test_what_a_killed_run_left_is_no_result(world: World) -> None:
    world.evaluate("face_made")
    (world.out / "face_made").rename(world.out / ".face_made.abc")
    assert world.evaluate("face_made").done == ["face_made"]


def test_all_missing_questions_are_named_at_once(world: World) -> None:
    (world.folder / "face_made.parquet").unlink()
    celeba = world.folder / "face_celeba.parquet"
    celeba.write_bytes(celeba.read_bytes()[:-20])
    with pytest.raises(
        FaceDataError, match=r"2 of 2 tasks cannot be asked:\n  face_celeba: .*damaged.*\n  face_made: .*no such"
    ):
        world.jobs()
    (world.folder / "face_made.parquet").write_bytes(write_questions(world.folder / "o", "face_celeba").read_bytes())
    with pytest.raises(FaceDataError, match="holds the questions of face_celeba, not of face_made"):
        world.jobs("face_made")


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (Model("face_llava"), Settings(), "needs a model directory"),
        (Model("face_llava", Path("absent")), Settings(), "no config.json"),
        (Model("dummy", Path("a,b")), Settings(), "cannot take ,"),
        (Model("llava_onevision", Path("a"), "pretrained=x"), Settings(), "must not have pretrained"),
        (Model("vllm", None, "a=1,device=cpu"), Settings(device="cpu"), "must not have device"),
        (Model("dummy"), Settings(processes=2), "cannot run in several processes"),
    ],
)
def test_settings_that_cannot_work(world: World, model: Model, settings: Settings, message: str) -> None:
    with pytest.raises(FaceConfigError, match=message):
        lmms_process.check(model, settings, world.out)


def test_llava_hf_gets_what_it_needs(world: World, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    model = Model("llava_hf", tmp_path)
    with pytest.raises(FaceConfigError, match="batch size 1 only"):
        lmms_process.check(model, Settings(batch_size=2), world.out)
    line = lmms_process.command(model, Settings(device="cpu", limit=3), "face_made", Path("/t"), Path("/o"))
    values = {name: line[line.index(name) + 1] for name in ("--model_args", "--device", "--limit", "--include_path")}
    assert values["--model_args"] == f"pretrained={tmp_path},device_map=cpu"
    assert (values["--device"], values["--limit"], values["--include_path"]) == ("cpu", "3", "/t")


def test_without_lmms_eval(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmms_process.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FaceHostError, match=r"llava-face-plugin\[eval\]"):
        world.evaluate()


def test_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    found = lmms_process.environment(tmp_path)
    assert (found["HF_HUB_OFFLINE"], found["TRANSFORMERS_OFFLINE"]) == ("0", "1")
    assert found["FACE_EVAL_DATA"] == str(tmp_path) and "hf_secret" not in found.values()


def test_progress_is_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(
        b"Building: 5/5 [x]\rModel Responding:  0%| | 0/40 [00:00<?]\rModel Responding: 30%|# | 12/40 [00:01"
    )
    assert lmms_process.answered(log) == 12
    log.write_bytes(b"")
    assert lmms_process.answered(log) == 0


def test_groups_tags_and_patterns() -> None:
    found = TaskIndex({t: Path() for t in "abc"}, {"g": ["b", "h"], "h": ["a", "b"], "loop": ["loop"], "bad": ["z"]})
    assert found.expand(["g"]) == ["b", "a"]
    assert found.expand(["c", "h", "c"]) == ["c", "a", "b"]
    assert found.expand(["[ac]"]) == ["a", "c"]
    with pytest.raises(FaceConfigError, match="unknown task or group 'd'"):
        found.expand(["d"])
    with pytest.raises(FaceDataError, match="contains itself"):
        found.expand(["loop"])
    with pytest.raises(FaceDataError, match="z does not exist"):
        found.expand(["bad"])


def test_bad_task_files(tmp_path: Path) -> None:
    def index_of(text: str) -> TaskIndex:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "a.yaml").write_text(text)
        return TaskIndex.of([folder])

    with pytest.raises(FaceDataError, match=r"a.yaml: not a readable YAML file"):
        index_of("task: [")
    with pytest.raises(FaceDataError, match="a mapping of keys was expected"):
        index_of("- a")
    with pytest.raises(FaceDataError, match="not a task with a question file"):
        index_of("task: a\ntest_split: test").task("a")
    with pytest.raises(FaceDataError, match=r"absent_yaml: not a readable"):
        index_of("task: a\ninclude: absent_yaml").task("a")
    with pytest.raises(FaceDataError, match="the name face_made is taken"):
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "b.yaml").write_text("task: face_made")
        TaskIndex.of([task_folder(), tmp_path / "own"])
    with pytest.raises(FaceDataError, match="no such folder of tasks"):
        TaskIndex.of([tmp_path / "absent"])


@needs_lmms
def test_tasks_and_groups_are_lmms_evals() -> None:
    from lmms_eval.tasks import TaskManager

    manager, ours = TaskManager("ERROR", include_path=str(task_folder()), include_defaults=False), index()
    assert sorted(ours.tasks) == manager.all_subtasks
    assert sorted(ours.groups) == sorted([*manager.all_groups, *manager.all_tags])
    for tag in manager.all_tags:
        assert sorted(ours.groups[tag]) == sorted(manager.task_index[tag]["task"])


def test_every_task_says_its_questions_and_its_figures() -> None:
    for name in index().tasks:
        task = index().task(name)
        assert task.metrics and all(callable(m.aggregation()) for m in task.metrics), name
        assert task.questions.startswith("face_") and task.version, name


@needs_lmms
def test_lmms_eval_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dummy model, in a process of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    write_questions(tmp_path, images=6)
    jobs = run.plan(index(), ["face_made"], tmp_path, None)
    outcome = run.evaluate(jobs, DUMMY, tmp_path / "out", Settings(), shown := Shown())
    assert outcome.done == ["face_made"], shown.ended
    result = read_result(tmp_path / "out" / "face_made")
    assert result.output.figures["face_acc_score"] == pytest.approx(1 / 3)  # every third answer is yes
    assert [r["question_id"] for r in result.output.records] == sorted(jobs[0].asked)
    assert result.info.versions["lmms_eval"]
    golden, _ = lmms_output(tmp_path / "face_made.parquet", "face_made", YES)
    theirs = json.loads((tmp_path / "out" / "face_made" / RESULTS).read_text())["results"]["face_made"]
    assert golden["results"]["face_made"].keys() <= theirs.keys()


@needs_lmms
@pytest.mark.launch
def test_two_processes_give_the_scores_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch of face_llava on a random model, whose answers are varied nonsense: the texts are compared, too."""
    from face_llava_models import write_transformers_llava

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    model = Model("face_llava", write_transformers_llava(tmp_path / "model"))
    write_questions(tmp_path, images=7, topics=("Smiling", "Bald", "Young"))
    jobs, found = run.plan(index(), ["face_made"], tmp_path, None), []
    texts = []
    for processes in (1, 2):
        out = tmp_path / f"out{processes}"
        outcome = run.evaluate(jobs, model, out, Settings("cpu", processes=processes), shown := Shown())
        assert not outcome.failed, shown.ended
        found.append(read_result(out / "face_made").output)
        lines = (out / "face_made" / SAMPLES).read_text().splitlines()
        texts.append(dict(sorted((s["doc_id"], s["filtered_resps"]) for s in map(json.loads, lines))))
    assert found[0].records == found[1].records and texts[0] == texts[1]
    assert str(found[0].figures) == str(found[1].figures)  # NaN is not equal to itself
