"""A plan: one run with face mode off and on, whether it fits, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..config import FaceConfig
from ..errors import FaceConfigError
from .memory import GIB, Memory, keeps_gradients, memory
from .shapes import Shapes
from .tracing import Traced, trace
from .work import Spread, Work

NEAR = 0.9
"""Above this share of a GPU's memory a plan is called near: our default, for what fragmentation may take."""


@dataclass(frozen=True)
class Machine:
    """One GPU. Defaults: an A100 with 80 GB; its bf16 rate without sparsity, from NVIDIA's data sheet."""

    memory_gib: float = 80.0
    peak_tflops: float = 312.0
    mfu: tuple[float, float] = (0.3, 0.5)
    """Assumed share of the peak that the model's FLOPs reach, low and high. Our default; not measured."""

    def __post_init__(self) -> None:
        low, high = self.mfu
        if not 0 < low <= high <= 1:
            raise FaceConfigError(f"--mfu {low:g}-{high:g}: expected shares between 0 and 1, the lower one first")
        if self.memory_gib <= 0 or self.peak_tflops <= 0:
            raise FaceConfigError("--gpu-memory and --peak-tflops must be above 0")


@dataclass(frozen=True)
class Mode:
    """The run with face mode off, or on."""

    traced: Traced
    memory: Memory
    step_flops: int
    """Of one GPU in one optimizer step, recomputation left out."""
    executed_flops: int
    """The same with what gradient checkpointing computes twice."""
    seconds: tuple[float, float]
    """Of an optimizer step at the higher and at the lower assumed MFU."""


@dataclass(frozen=True)
class Suggestion:
    """Another way to run it (with face mode on): the options that differ, its peak in bytes, and whether it fits."""

    options: str
    peak: int
    fits: str


@dataclass(frozen=True)
class Plan:
    """Everything that ``llava-face plan`` shows."""

    shapes: Shapes
    face: FaceConfig
    work: Work
    spread: Spread
    machine: Machine
    off: Mode
    on: Mode
    fits: str
    """With face mode on: ``yes``, ``near`` or ``no``."""
    suggestions: tuple[Suggestion, ...]


class Planner:
    """Plans for one model and one face block; what was traced once is kept."""

    def __init__(self, shapes: Shapes, face: FaceConfig, machine: Machine) -> None:
        self.shapes, self.face, self.machine = shapes, face, machine
        self._traces: dict[Any, Traced] = {}

    def plan(self, work: Work, spread: Spread) -> Plan:
        """Raises ``FaceConfigError`` for what no host would run."""
        off, on = self.mode(work, spread, None), self.mode(work, spread, self.face)
        fits = self.fits(on.memory)
        found = () if fits == "yes" else tuple(self.suggestions(work, spread))
        return Plan(self.shapes, self.face, work, spread, self.machine, off, on, fits, found)

    def mode(self, work: Work, spread: Spread, face: FaceConfig | None) -> Mode:
        """The run with that face block, or without one."""
        traced = self._trace(work, face, keeps_gradients(spread))
        plain = self._trace(replace(work, checkpointing=False), face, keeps_gradients(spread))
        flops = plain.total_flops * spread.accumulation
        low, high = self.machine.mfu
        rate = self.machine.peak_tflops * 1e12
        return Mode(
            traced, memory(traced, work, spread, self.shapes.text), flops, traced.total_flops * spread.accumulation,
            (flops / (rate * high), flops / (rate * low)),
        )  # fmt: skip

    def fits(self, found: Memory) -> str:
        """``yes``, ``near`` or ``no``."""
        used = found.peak.total / (self.machine.memory_gib * GIB)
        return "no" if used > 1 else "near" if used > NEAR else "yes"

    def suggestions(self, work: Work, spread: Spread) -> Iterator[Suggestion]:
        """Each single change, then, if none of them fits, several together."""
        alone = [self._suggestion(*change) for change in _changes(work, spread)]
        yield from alone
        if all(one.fits == "no" for one in alone) and (together := self._together(work, spread)) is not None:
            yield together

    def _together(self, work: Work, spread: Spread) -> Suggestion | None:
        """One change after another until they fit; then as large a micro batch as still does."""
        taken: list[str] = []
        found = None
        while found is None and (change := next(_changes(work, spread), None)):
            options, work, spread = change
            taken = [one for one in taken if one.split()[0] != options.split()[0]] + [options]
            suggestion = self._suggestion(" ".join(taken), work, spread)
            found = suggestion if suggestion.fits != "no" else None
        while found is not None and spread.accumulation % 2 == 0 and any(one.startswith("--batch") for one in taken):
            work, spread = replace(work, batch=2 * work.batch), replace(spread, accumulation=spread.accumulation // 2)
            again = f"--batch {work.batch} --grad-accum {spread.accumulation}"
            taken = [again if one.startswith("--batch") else one for one in taken]
            larger = self._suggestion(" ".join(taken), work, spread)
            if larger.fits == "no":
                break
            found = larger
        return found

    def _suggestion(self, options: str, work: Work, spread: Spread) -> Suggestion:
        traced = self._trace(work, self.face, keeps_gradients(spread))
        found = memory(traced, work, spread, self.shapes.text)
        return Suggestion(options, found.peak.total, self.fits(found))

    def _trace(self, work: Work, face: FaceConfig | None, keep: bool) -> Traced:
        key = (work, face is None, keep)
        if key not in self._traces:
            self._traces[key] = trace(self.shapes, work, face, keep)
        return self._traces[key]


def _changes(work: Work, spread: Spread) -> Iterator[tuple[str, Work, Spread]]:
    """Single changes, those that cost least first: (options, work, spread)."""
    if spread.gpus > 1 and spread.zero < 2:
        yield "--zero 2", work, replace(spread, zero=2)
    if spread.gpus > 1 and spread.zero < 3:
        yield "--zero 3", work, replace(spread, zero=3)
    if not work.checkpointing:
        yield "--gradient-checkpointing", replace(work, checkpointing=True), spread
    if work.batch > 1:
        half, twice = work.batch // 2, -(-work.batch * spread.accumulation // (work.batch // 2))
        options = f"--batch {half} --grad-accum {twice}"
        yield options, replace(work, batch=half), replace(spread, accumulation=twice)
    if spread.offload == "none" and spread.zero:
        yield "--offload optimizer", work, replace(spread, offload="optimizer")
    if not spread.offloads_parameters and spread.zero == 3:
        yield "--offload both", work, replace(spread, offload="both")
    if work.stage == "finetune":
        yield "--stage lora", replace(work, stage="lora"), spread
