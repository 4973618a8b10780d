"""What the presets add to each named model: parameters, FLOPs and activations, traced from shapes.

    .venv/bin/python scripts/benchmarks/preset_table.py [--models 7b ...] [--frames N] [--out DIR]

One image and 64 text tokens, batch 1, bf16, no gradient checkpointing; anyres images of 1024 x 1024. ``--frames``: one
video instead. No weight is allocated and nothing is timed. Attention counts as a kernel that keeps no scores and
computes them again backward. A fusion that reads the prompt is given all of the text.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from report import Table, machine, show, write_tables

from llava_face_plugin.planning.catalogue import MODELS
from llava_face_plugin.planning.face import of_preset
from llava_face_plugin.planning.skeleton import FACE, FACIAL
from llava_face_plugin.planning.tokens import of_image, of_video
from llava_face_plugin.planning.tracing import BACKWARD, trace
from llava_face_plugin.planning.work import Work


class Row(NamedTuple):
    """A preset, or what is set over it."""

    label: str
    preset: str
    attributes: int
    settings: dict[str, Any] = {}  # noqa: RUF012 (nothing writes to it)


PRESETS = (
    Row("light", "light", 0), Row("light", "light", 40), Row("faceinsight", "faceinsight", 40),
    Row("favchat", "favchat", 0), Row("favchat, grouped", "favchat", 0, {"fusion": {"dispatch": "grouped"}}),
    Row("favchat, encoder trained", "favchat", 0, {"facial": {"trained": True}}),
    Row("favchat-v6", "favchat-v6", 0),
    Row("faceinsight & facial, gated_add", "faceinsight", 40, {"facial": {}}),
    Row("faceinsight & facial, moe", "faceinsight", 40, {"facial": {}, "fusion": {"type": "moe"}}),
)  # fmt: skip
NEXT_VIDEO = "next-video-7b"
VIDEO_MODELS = {
    "onevision-7b": MODELS["onevision-7b"], "onevision-0.5b": MODELS["onevision-0.5b"],
    # LLaVA-NeXT-Video's classes have the shapes of LLaVA-NeXT.
    NEXT_VIDEO: dataclasses.replace(
        MODELS["next-7b"], name=NEXT_VIDEO, family="llava_next_video", host="hf-llava-next-video"
    ),
}  # fmt: skip
TEXT = 64


def rows_of(name: str, frames: int | None) -> list[dict[str, Any]]:
    """A row for each preset."""
    shapes = (VIDEO_MODELS if frames else MODELS)[name]
    visual = of_video(shapes, frames) if frames else of_image(shapes, 1024, 1024)
    finetune = Work(visual, TEXT, batch=1, checkpointing=False)
    pretrain = dataclasses.replace(finetune, stage="pretrain")
    plain = {stage: trace(shapes, work, None) for stage, work in (("finetune", finetune), ("pretrain", pretrain))}
    rows = []
    for label, preset, attributes, settings in PRESETS:
        face = of_preset(preset, attributes, settings)
        on = {stage: trace(shapes, work, face) for stage, work in (("finetune", finetune), ("pretrain", pretrain))}
        forward = {mode: found.total_flops - found.flops[BACKWARD]
                   for mode, found in (("off", plain["finetune"]), ("on", on["finetune"]))}  # fmt: skip
        rows.append(
            {
                "model": name, "preset": label, "attributes": attributes, "tiles": visual.tiles,
                "tokens": on["finetune"].llm_tokens, "added_tokens": on["finetune"].llm_tokens - finetune.tokens,
                "parameters": sum(on["finetune"].trained.get(part, 0) for part in (FACE, FACIAL)),
                "frozen": on["finetune"].frozen.get(FACIAL, 0), "forward": forward,
                "training_ratio": on["finetune"].total_flops / plain["finetune"].total_flops,
                "stage1_ratio": on["pretrain"].total_flops / plain["pretrain"].total_flops,
                "activation_bytes": {
                    "off": sum(plain["finetune"].alive.values()), "on": sum(on["finetune"].alive.values()),
                },
            }
        )  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    head = [
        "model", "preset", "attributes", "tiles", "LLM tokens", "branch", "frozen", "TFLOP forward, off", "GFLOP added",
        "forward", "stage 2", "stage 1", "activations MiB, off", "added",
    ]  # fmt: skip
    cells = []
    for row in rows:
        off, on = row["forward"]["off"], row["forward"]["on"]
        before, after = row["activation_bytes"]["off"], row["activation_bytes"]["on"]
        cells.append(
            [
                row["model"], row["preset"], str(row["attributes"]), str(row["tiles"]),
                f"{row['tokens']} (+{row['added_tokens']})", f"{row['parameters'] / 1e6:.2f} M",
                f"{row['frozen'] / 1e6:.1f} M", f"{off / 1e12:.2f}",
                f"{(on - off) / 1e9:.3g}", f"x{on / off:.4f}", f"x{row['training_ratio']:.4f}",
                f"x{row['stage1_ratio']:.4f}", f"{before / 2**20:.0f}", f"+{(after - before) / 2**20:.1f}",
            ]
        )  # fmt: skip
    return Table("Presets, traced from shapes", head, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=(*MODELS, NEXT_VIDEO))
    parser.add_argument("--frames", type=int, help="of a video, instead of an image")
    parser.add_argument("--out", type=Path, default=Path("preset_table"))
    arguments = parser.parse_args()
    known = VIDEO_MODELS if arguments.frames else MODELS
    names = arguments.models or tuple(known)
    if strange := [name for name in names if name not in known]:
        parser.error(f"--models {strange[0]}: expected some of {', '.join(known)}")
    rows = [row for name in names for row in rows_of(name, arguments.frames)]
    shown = f"video of {arguments.frames} frames" if arguments.frames else "image of 1024 x 1024"
    protocol = {"shown": shown, "text tokens": TEXT, "batch": 1, "dtype": "bf16"}
    write_tables(arguments.out, {"rows": rows, "protocol": protocol, "machine": machine("cpu")}, [table(rows)])
    show([table(rows)])
    print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
