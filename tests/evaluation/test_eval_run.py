"""``llava-face eval`` without its command line: what counts as a result, what is kept, what is run again."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from eval_samples import YES, index, lmms_output, write_lmms, write_questions

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.evaluation import lmms_process, run
from llava_face_plugin.evaluation.lmms_process import Model, Settings
from llava_face_plugin.evaluation.results import LOG, RESULTS, RUN, SAMPLES, read_result
from llava_face_plugin.evaluation.task_index import TaskIndex
from llava_face_plugin.evaluation.tasks import task_folder

needs_lmms = pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="needs the extra eval")
DUMMY = Model("dummy", None, "response=Yes")
TRACEBACK = (
    "\x1b[31mTraceback (most recent call last):\x1b[0m\n"
    "llava_face_plugin.errors.FaceDataError: question 7: image 7.png: damaged or truncated\n"
    "tenacity.RetryError: RetryError[<Future at 0x1 state=finished raised FaceDataError>]\n"
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
    assert world.evaluate("face_made", settings=Settings(limit=5, device="cpu")).kept == ["face_made"]
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
    assert [p.name for p in world.out.iterdir()] == ["face_celeba"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    world.code.clear()
    assert world.evaluate().kept == ["face_celeba"]


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
