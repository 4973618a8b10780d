"""What a person sees of a training run: a bar with rate and time left, and a line an epoch for the log."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .loop import Tick, Training
from .scores import Scores


class Meter:
    """``with Meter(console, training) as meter``: tell it of steps, epochs and scores."""

    def __init__(self, console: Console, training: Training) -> None:
        self.console, self.training = console, training
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True), console=console,
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=1.0)
        self.begin = self.done = training.progress()
        self.started = self.epoch_began = time.perf_counter()
        self.images = 0

    def __enter__(self) -> Meter:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def step(self, tick: Tick) -> None:
        """One step is done."""
        self.images += tick.images
        self.done = tick.progress
        text = f"epoch {tick.epoch + 1}, loss {tick.loss:.3f}, {self._rate():.0f} images/s"
        self.bar.update(self.task, completed=tick.progress, description=text)

    def epoch(self, loss: float) -> None:
        """One epoch is done, with this mean loss."""
        spent = time.perf_counter() - self.started
        share = max(1e-9, self.done - self.begin)
        left = spent / share * (1.0 - self.done) / 60.0
        state, recipe = self.training.state, self.training.recipe
        self.console.print(
            f"epoch {state.epoch}/{recipe.epochs}: loss {loss:.4f}, {self._rate():.1f} images/s, "
            f"{spent / 60:.1f} min, about {left:.1f} min left",
            highlight=False,
        )
        self.images, self.epoch_began = 0, time.perf_counter()

    def scored(self, scores: Scores) -> None:
        """The held-out pairs were scored."""
        self.console.print(
            f"held-out mean F1 {scores.mean_f1:.4f} (without background {scores.mean_f1_without_background:.4f}), "
            f"pixel accuracy {scores.pixel_accuracy:.4f}",
            highlight=False,
        )
        self.epoch_began = time.perf_counter()

    def _rate(self) -> float:
        return self.images / max(1e-9, time.perf_counter() - self.epoch_began)
