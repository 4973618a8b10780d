"""``llava-face plan``: memory, FLOPs and step time of a training run from shapes, before a GPU is asked for."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..planning.plan import Plan

_ASSUMED = (
    "assumed, not measured: MFU {low:g} to {high:g} of {peak:g} TFLOP/s; 1 GiB for CUDA's context; ZeRO's buffers as "
    "LLaVA's zero2.json and zero3.json set them; no fragmentation, no time for communication or data. This estimate "
    "was checked on a CPU and never on a GPU: docs/plan.md"
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(plan)


def plan(
    model_dir: Annotated[Path | None, typer.Argument(help="A model directory; or give --model.")] = None,
    model: Annotated[
        str | None, typer.Option(help="7b, 13b (LLaVA 1.5), next-7b, onevision-7b or onevision-0.5b.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="What trains it: llava-v1, llava-next, hf-llava, ...")] = None,
    vision_tower: Annotated[
        str | None, typer.Option(help="Its name or directory, where MODEL_DIR does not say it.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="light | faceinsight | favchat | favchat-v6: the face block, over MODEL_DIR's.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the preset, e.g. fusion.dispatch=grouped.")
    ] = None,
    face_config: Annotated[Path | None, typer.Option(help="JSON file with a face block.")] = None,
    attributes: Annotated[
        int | None, typer.Option(help="Stand-in knowledge of a preset: 0, 20 or 40 attributes.")
    ] = None,
    stage: Annotated[str, typer.Option(help="pretrain | finetune | lora")] = "finetune",
    gpus: Annotated[int, typer.Option(help="GPUs in all.")] = 8,
    zero: Annotated[int | None, typer.Option(help="0: plain DDP; 1, 2, 3. Default: 3; pretrain 2.")] = None,
    offload: Annotated[str, typer.Option(help="none | optimizer | parameters | both")] = "none",
    dtype: Annotated[str, typer.Option(help="Of the weights: bf16 | fp16 | fp32")] = "bf16",
    lora_rank: Annotated[int, typer.Option(help="With --stage lora.")] = 128,
    train_tower: Annotated[bool, typer.Option("--train-tower", help="The vision tower is trained, too.")] = False,
    optim: Annotated[str, typer.Option(help="adamw_torch (LLaVA's) | adamw_torch_fused")] = "adamw_torch",
    batch: Annotated[int | None, typer.Option(help="Samples a GPU and micro step. Default: 16; pretrain 32.")] = None,
    grad_accum: Annotated[int, typer.Option(help="Micro steps an optimizer step.")] = 1,
    seq_len: Annotated[
        int | None, typer.Option(help="LLM tokens of a sample, its image's among them. Default: 2048 or more.")
    ] = None,
    image_size: Annotated[str, typer.Option(help="Anyres: WIDTHxHEIGHT of the photographs.")] = "1024x1024",
    tiles: Annotated[int | None, typer.Option(help="Instead: tiles an image, the whole one among them.")] = None,
    frames: Annotated[int | None, typer.Option(help="Instead: frames of a video.")] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing/--no-gradient-checkpointing", help="As in LLaVA's scripts: on.")
    ] = True,
    attention: Annotated[str, typer.Option(help="sdpa (flash-attention counts the same) | eager")] = "sdpa",
    gpu_memory: Annotated[float, typer.Option(help="GiB of one GPU.")] = 80.0,
    peak_tflops: Annotated[float, typer.Option(help="Of one GPU at --dtype. Default: A100, bf16.")] = 312.0,
    mfu: Annotated[str, typer.Option(help="Assumed share of that peak: LOW-HIGH, or one number.")] = "0.3-0.5",
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Estimate memory, FLOPs and step time of a training run from shapes, with face mode off and on."""
    from ..errors import FaceConfigError
    from ..planning import face as faces
    from ..planning.plan import Machine, Planner
    from ..planning.read import shapes_of
    from ..planning.work import Spread
    from ..switch import parse_settings

    if (model_dir is None) == (model is None):
        raise FaceConfigError("plan: give a MODEL_DIR, or --model with a name, and not both")
    if set_ and preset is None:
        raise FaceConfigError("--set goes over a preset: give --preset too")
    shapes = shapes_of(str(model_dir or model), host, vision_tower)
    if face_config is not None:
        face = faces.of_file(face_config)
    elif shapes.face is not None and preset is None:
        face = shapes.face
    else:
        face = faces.of_preset(preset or "light", attributes, parse_settings(set_ or []))
    work = _work(
        shapes, _visual(shapes, image_size, tiles, frames), seq_len,
        batch=batch or (32 if stage == "pretrain" else 16), stage=stage, dtype=dtype, lora_rank=lora_rank,
        checkpointing=gradient_checkpointing, train_tower=train_tower, attention=attention,
    )  # fmt: skip
    spread = Spread(gpus, (2 if stage == "pretrain" else 3) if zero is None else zero, offload, grad_accum, optim)
    machine = Machine(gpu_memory, peak_tflops, _range(mfu))
    made = Planner(shapes, face, machine).plan(work, spread)
    if as_json:
        typer.echo(json.dumps(_as_dict(made), indent=2))
    else:
        _print(made)


def _visual(shapes: Any, image_size: str, tiles: int | None, frames: int | None) -> Any:
    from ..errors import FaceConfigError
    from ..planning import tokens

    if tiles is not None and frames is not None:
        raise FaceConfigError("plan: --tiles or --frames, not both")
    for option, count in (("--tiles", tiles), ("--frames", frames)):
        if count is not None and count < 1:
            raise FaceConfigError(f"{option} must be at least 1, not {count}")
    if frames is not None:
        return tokens.of_video(shapes, frames)
    if tiles is not None:
        return tokens.of_tiles(shapes, tiles)
    size = re.fullmatch(r"(\d+)x(\d+)", image_size)
    if size is None or "0" in size.groups():
        raise FaceConfigError(f"--image-size {image_size}: expected WIDTHxHEIGHT, such as 1024x768")
    return tokens.of_image(shapes, int(size[1]), int(size[2]))


def _work(shapes: Any, visual: Any, seq_len: int | None, **settings: Any) -> Any:
    from ..errors import FaceConfigError
    from ..planning.work import Work

    if seq_len is None:
        seq_len = max(2048, visual.tokens + 512)  # LLaVA's model_max_length; our default where images take more
    if seq_len <= visual.tokens:
        raise FaceConfigError(f"--seq-len {seq_len}: the image alone takes {visual.tokens} tokens of {shapes.name}")
    return Work(visual, seq_len - visual.tokens, **settings)


def _range(mfu: str) -> tuple[float, float]:
    from ..errors import FaceConfigError

    try:
        low, _, high = mfu.partition("-")
        return float(low), float(high or low)
    except ValueError:
        raise FaceConfigError(f"--mfu {mfu}: expected LOW-HIGH, such as 0.3-0.5, or one number") from None


def _as_dict(made: Plan) -> dict[str, Any]:
    found = {
        name: dataclasses.asdict(getattr(made, name)) for name in ("work", "spread", "machine", "off", "on")
    }  # fmt: skip
    for mode, source in (("off", made.off), ("on", made.on)):
        found[mode]["memory"]["peak"] = {"name": source.memory.peak.name, "bytes": source.memory.peak.total}
    shapes = {name: getattr(made.shapes, name) for name in ("name", "family", "host", "source", "projector")}
    return {
        "shapes": {**shapes, "text": dict(made.shapes.text), "vision": dict(made.shapes.vision)},
        "face": made.face.to_dict(), **found, "fits": made.fits,
        "suggestions": [dataclasses.asdict(one) for one in made.suggestions], "assumptions": _assumptions(made),
    }  # fmt: skip


def _assumptions(made: Plan) -> str:
    low, high = made.machine.mfu
    return _ASSUMED.format(low=low, high=high, peak=made.machine.peak_tflops)


def _print(made: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    from .. import summary

    console = Console()
    work, spread = made.work, made.spread
    knowledge = made.face.knowledge
    face = f"{summary.sources(made.face)}, {summary.fusion(made.face.fusion)}"
    face += f", {len(knowledge.attributes)} attributes" if knowledge else ", no knowledge"
    lines = [
        f"{made.shapes.name} on {made.shapes.host}: {made.shapes.source}",
        f"{work.stage}, {work.dtype}, batch {work.batch} x {spread.accumulation} x {spread.gpus} GPU(s), "
        f"ZeRO {spread.zero}, offload {spread.offload}, checkpointing {'on' if work.checkpointing else 'off'}",
        f"image: {work.visual.tiles} tile(s), {work.visual.tokens} tokens; {work.text} text tokens",
        f"face mode: {face}",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in ("", "off", "on", "difference"):
        table.add_column(heading, justify="left" if not heading else "right")
    for row in _rows(made):
        table.add_row(*row)
    console.print(table)
    colour = {"yes": "green", "near": "yellow", "no": "red"}[made.fits]
    console.print(f"fits {made.machine.memory_gib:g} GiB: [{colour}]{made.fits}[/{colour}]", highlight=False)
    for one in made.suggestions:
        console.print(f"  {one.options}: {_gib(one.peak)} GiB, fits: {one.fits}", highlight=False, soft_wrap=True)
    console.print(_assumptions(made), style="dim", highlight=False, soft_wrap=True)


def _rows(made: Plan) -> list[tuple[str, str, str, str]]:
    off, on = made.off, made.on
    rows = [_row("LLM tokens a sample", off.traced.llm_tokens, on.traced.llm_tokens, 1, 0)]
    for name, before, after in (
        ("trained", off.traced.trained, on.traced.trained),
        ("frozen", off.traced.frozen, on.traced.frozen),
    ):
        rows.append(_row(f"parameters, {name}, M", sum(before.values()), sum(after.values()), 1e6, 2))
    for plain, moment in zip(off.memory.moments, on.memory.moments, strict=True):
        rows.append(_row(f"GiB a GPU, {moment.name}", plain.total, moment.total, 2**30, 2))
        for part in dict.fromkeys([*plain.parts, *moment.parts]):
            first, second = plain.parts.get(part, 0), moment.parts.get(part, 0)
            if max(first, second) >= 2**20:
                rows.append(_row(f"  {part}", first, second, 2**30, 2))
    if on.memory.host:
        rows.append(_row("GiB of host memory a GPU", off.memory.host, on.memory.host, 2**30, 2))
    rows.append(_row("TFLOP a GPU and step", off.step_flops, on.step_flops, 1e12, 2))
    if on.executed_flops != on.step_flops:
        rows.append(_row("  and with recomputation", off.executed_flops, on.executed_flops, 1e12, 2))
    for name, index in (("s a step, highest MFU", 0), ("s a step, lowest MFU", 1)):
        rows.append(_row(name, off.seconds[index], on.seconds[index], 1, 2))
    return rows


def _row(name: str, off: float, on: float, unit: float, digits: int) -> tuple[str, str, str, str]:
    ratio = f" (x{on / off:.4f})" if off and on != off else ""
    return name, f"{off / unit:,.{digits}f}", f"{on / unit:,.{digits}f}", f"{(on - off) / unit:+,.{digits}f}{ratio}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
