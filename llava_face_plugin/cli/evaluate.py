"""``llava-face eval`` and ``report``: ask a model the face tasks through lmms-eval, and say what came out."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Include = Annotated[
    list[Path] | None, typer.Option(help="A folder of tasks of your own, besides the ones that come with the plugin.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    app.command("eval")(evaluate)
    app.command("report")(report)


def evaluate(
    tasks: Annotated[str, typer.Option(help="Tasks, groups, tags, patterns.", metavar="GROUP[,TASK]")],
    out: Annotated[Path, typer.Option(help="Folder for the results of this model: one for each model.")],
    model: Annotated[Path | None, typer.Option(help="Model directory.", metavar="DIR")] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Folder of `llava-face questions`. Default: $FACE_EVAL_DATA.")
    ] = None,
    runner: Annotated[
        str, typer.Option(help="lmms-eval's name of the code that runs the model: face_llava, llava_hf, dummy ...")
    ] = "face_llava",
    model_args: Annotated[str, typer.Option(help="More arguments for the runner.", metavar="K=V,...")] = "",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. Default: the runner's own.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Default: the runner's own.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First questions of each task only: for trying out.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes (torchrun), one for each GPU.")] = 1,
    resume: Annotated[bool, typer.Option(help="Keep tasks whose results are there, for the same model.")] = True,
    include: Include = None,
) -> None:
    """Ask a model face tasks, one lmms-eval process each, and check that every question has its result."""
    from rich.console import Console

    from ..errors import FaceConfigError
    from ..evaluation import lmms_process, run

    console = Console(stderr=True)
    asked = run.Model(runner, model.resolve() if model else None, model_args.strip().strip(","))
    if model is not None and not model.is_dir():
        raise FaceConfigError(f"{model}: no such model directory")
    settings = run.Settings(device, batch_size, limit, processes)
    out = out.resolve()
    # Before the question files are read, which takes a while.
    lmms_process.check(asked, settings, out)
    jobs = run.plan(_index(include), [t.strip() for t in tasks.split(",") if t.strip()], questions, limit)
    try:
        with _interruptible(), _Display.shown(console) as display:
            outcome = run.evaluate(jobs, asked, out, settings, display, resume=resume)
    except KeyboardInterrupt:
        console.print("interrupted: finished tasks are kept, run the same command to go on", style="yellow")
        raise typer.Exit(130) from None
    console.print(run.counted(outcome), highlight=False)
    if limit is not None:
        console.print(f"--limit {limit}: not a result", style="yellow", highlight=False)
    if outcome.failed:
        console.print(
            f"failed: {', '.join(outcome.failed)}; logs: {' '.join(map(str, outcome.logs))}",
            style="red",
            soft_wrap=True,
        )
        raise typer.Exit(1)


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of `llava-face eval`.", metavar="OUT [OUT2 ...]")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report. Default: OUT/report.")] = None,
    names: Annotated[
        str | None, typer.Option(help="Names of the models, comma-separated. Default: those of the folders.")
    ] = None,
    plots: Annotated[bool, typer.Option(help="Draw plots (the extra `plots`).")] = True,
    include: Include = None,
) -> None:
    """Tables, plots and one HTML page from result folders; with several, every model against the first."""
    from rich.console import Console
    from rich.progress import track

    from ..evaluation.report import make_report, write_report
    from ..evaluation.report_tables import NOT_A_RESULT, comparison_rows, interval, share

    console = Console(stderr=True)

    def progress(what: Iterable[Any], doing: str) -> Iterable[Any]:
        return track(list(what), description=doing, console=console, transient=True)

    made = make_report(folders, names.split(",") if names else None, _index(include), progress)
    for model in made.models:
        for s in model.summaries:
            mark = f"  {NOT_A_RESULT}" if s.limit is not None else ""
            bounds = "" if s.low is None else f" ({interval(s.low, s.high)})"
            typer.echo(f"{model.name}  {s.task}  {s.main} {share(s.score)}{bounds}, n {s.n:,}{mark}")
    for row in comparison_rows(made.comparisons):
        typer.echo(f"{row[0]}  {row[4]} - {row[2]}: {row[6]} ({row[7]}), p {row[8]}, Holm {row[9]}; {row[10]}")
    for path in write_report(made, out or folders[0] / "report", plots):
        typer.echo(path)


def _index(include: list[Path] | None) -> Any:
    from ..evaluation.task_index import TaskIndex
    from ..evaluation.tasks import task_folder

    return TaskIndex.of([task_folder(), *(folder.resolve() for folder in include or [])])


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP (a terminal that closes) end as Ctrl-C does: what is running must not outlive us."""

    def interrupt(number: int, frame: Any) -> None:
        # systemd and others send both: a second one would cut the clearing up short.
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    # nohup works by ignoring SIGHUP: that stays.
    caught = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, interrupt) for s in caught}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler or signal.SIG_DFL)


class _Display:
    """A bar for the task that runs; a line for each that has ended."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self.progress, self.console = progress, console

    @classmethod
    @contextmanager
    def shown(cls, console: Console) -> Iterator[_Display]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield cls(progress, console)

    def start(self, task: str, total: int) -> None:
        self.bar = self.progress.add_task(task, total=total)

    def answered(self, count: int) -> None:
        self.progress.update(self.bar, completed=count)

    def end(self, task: str, message: str, failed: bool) -> None:
        for bar in self.progress.task_ids:
            self.progress.remove_task(bar)
        style = "red" if failed else None
        self.console.print(f"{task}: {message}", style=style, soft_wrap=True, highlight=False, markup=False)
