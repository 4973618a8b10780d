"""The training loop: every draw follows from seed and step, so a killed run goes on as if nothing had been.

On a CPU, with the same number of threads, it ends with the very same weights. On a GPU the gradient of resizing adds
up in no fixed order, so that two runs differ by rounding.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.maps.files import atomic_path
from llava_face_plugin.parsing.networks.compact import CompactNet

from .augmentation import Augmentation, augment
from .objective import class_weights, parsing_loss, update_average
from .pairs import TrainingSet


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, the data apart (our defaults)."""

    size: int = 256
    epochs: int = 200
    batch_size: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.02
    warmup: float = 0.03
    """Share of the run in which the learning rate rises; then it falls to zero by a cosine."""
    decay: float = 0.998
    """Of the moving average of the weights, which is what is scored and kept."""
    seed: int = 0
    bf16: bool = False
    """Autocast to bfloat16."""
    minutes: float | None = None
    """At most so many minutes of training: the learning rate then falls by the clock where that is faster than by
    steps, and two runs differ."""


@dataclass
class State:
    """Where a run stands."""

    net: CompactNet
    average: CompactNet
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Tick:
    """News of one step."""

    epoch: int
    step: int
    loss: float
    images: int
    progress: float
    """Share of the run that is done, in [0, 1]."""


class Training:
    """Trains a fresh ``CompactNet`` on ``data``; ``epochs`` runs it."""

    def __init__(self, recipe: Recipe, data: TrainingSet, device: torch.device) -> None:
        if len(data) < recipe.batch_size:
            raise FaceConfigError(f"batch size {recipe.batch_size} is more than the {len(data)} training pairs")
        self.recipe, self.data, self.device = recipe, data, device
        self.weights = class_weights(data.frequency).to(device)
        # Channels last is the layout in which CPU and GPU convolutions are fastest in bfloat16.
        torch.manual_seed(recipe.seed)
        net = CompactNet().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.state = State(net, copy.deepcopy(net).eval().requires_grad_(False), optimizer)
        # The last, smaller batch of an epoch is left out: its batch statistics would be noisier than the others'.
        self.steps = len(data) // recipe.batch_size

    def progress(self) -> float:
        """Share of the run that is done, by steps or by the clock, whichever is further."""
        done = self.state.step / (self.steps * self.recipe.epochs)
        clock = self.state.seconds / (60.0 * self.recipe.minutes) if self.recipe.minutes else 0.0
        return min(1.0, max(done, clock))

    def epochs(self, on_step: Callable[[Tick], None]) -> Iterator[float]:
        """Train epoch by epoch; yields each one's mean loss. The last one may end early, by the clock."""
        while self.progress() < 1.0:
            order = self.data.order(_rng(self.recipe.seed, 1, self.state.epoch))
            losses = []
            for batch in range(self.steps):
                began = time.perf_counter()
                chosen = order[batch * self.recipe.batch_size : (batch + 1) * self.recipe.batch_size]
                losses.append(self._step(chosen))
                self.state.seconds += time.perf_counter() - began
                on_step(Tick(self.state.epoch, self.state.step, losses[-1], len(chosen), self.progress()))
                if self.progress() >= 1.0:
                    break
            self.state.epoch += 1
            yield float(np.mean(losses))

    def _step(self, chosen: torch.Tensor) -> float:
        state, recipe = self.state, self.recipe
        rng = _rng(recipe.seed, 2, state.step)
        images, maps = (part.to(self.device) for part in self.data.batch(chosen, rng))
        # The loss is taken at stride 2, where the network's logits are: a quarter of the time of full size.
        pictures, labels = augment(images, maps, rng, Augmentation(), map_size=-(-recipe.size // 2))
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule(self.progress(), recipe.warmup)
        state.net.train()
        with self._autocast():
            logits = state.net.coarse(pictures.contiguous(memory_format=torch.channels_last))
        loss = parsing_loss(logits, labels, self.weights)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        update_average(state.average, state.net, state.step, recipe.decay)
        state.step += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FaceConfigError(f"the loss is {value} at step {state.step}: lower --lr (now {recipe.lr})")
        return value

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.recipe.bf16 else nullcontext()

    def save(self, path: Path) -> None:
        """Write all that is needed to go on; the file appears whole or not at all."""
        state = self.state
        content = {
            "recipe": asdict(self.recipe), "data": self.data.digest, "epoch": state.epoch, "step": state.step,
            "seconds": state.seconds, "history": state.history, "net": state.net.state_dict(),
            "average": state.average.state_dict(), "optimizer": state.optimizer.state_dict(),
        }  # fmt: skip
        with atomic_path(path) as temporary:
            torch.save(content, temporary)

    def resume(self, path: Path) -> None:
        """Go on where ``path`` stands.

        Raises ``FaceDataError`` if it is no checkpoint, ``FaceConfigError`` naming the options or data that differ.
        """
        try:
            content = torch.load(path, map_location=self.device, weights_only=True)
            recipe, state = content["recipe"], self.state
            now = asdict(self.recipe)
            differ = [f"{key} was {recipe.get(key)}, is {now[key]}" for key in now if recipe.get(key) != now[key]]
            if content["data"] != self.data.digest:
                differ.append("the training pairs are other ones")
            if differ:
                raise FaceConfigError(f"{path} is of another run: {'; '.join(differ)}")
            state.net.load_state_dict(content["net"])
            state.average.load_state_dict(content["average"])
            state.optimizer.load_state_dict(content["optimizer"])
            state.epoch, state.step, state.seconds = content["epoch"], content["step"], content["seconds"]
            state.history = content["history"]
        except FaceConfigError:
            raise
        except Exception as error:  # torch.load raises whatever a damaged pickle or zip makes it raise
            raise FaceDataError(f"{path}: not a checkpoint of this script, or damaged ({error})") from error


def _schedule(progress: float, warmup: float) -> float:
    """The learning rate's factor in (0, 1] at ``progress`` in [0, 1]."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return max(1e-3, 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup))))


def _rng(*numbers: int) -> torch.Generator:
    """A CPU generator of its own for each tuple of numbers."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(seed)
