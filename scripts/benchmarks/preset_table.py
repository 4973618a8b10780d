"""What the presets add to each named model: parameters, FLOPs and activations, traced from shapes.

    .venv/bin/python scripts/benchmarks/preset_table.py [--models 7b ...] [--out DIR]

One image and 64 text tokens, batch 1, bf16, no gradient checkpointing; anyres images of 1024 x 1024. No weight is
allocated and nothing is timed. Attention counts as a kernel that keeps no scores and computes them again backward.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from report import Table, machine, show, write_tables

from llava_face_plugin.planning.catalogue import MODELS
from llava_face_plugin.planning.face import of_preset
from llava_face_plugin.planning.skeleton import FACE
from llava_face_plugin.planning.tokens import of_image
from llava_face_plugin.planning.tracing import BACKWARD, trace
from llava_face_plugin.planning.work import Work

PRESETS = (("light", 0), ("light", 40), ("faceinsight", 40))
TEXT = 64


def rows_of(name: str) -> list[dict[str, Any]]:
    """A row for each preset."""
    shapes = MODELS[name]
    visual = of_image(shapes, 1024, 1024)
    finetune = Work(visual, TEXT, batch=1, checkpointing=False)
    pretrain = dataclasses.replace(finetune, stage="pretrain")
    plain = {stage: trace(shapes, work, None) for stage, work in (("finetune", finetune), ("pretrain", pretrain))}
    rows = []
    for preset, attributes in PRESETS:
        face = of_preset(preset, attributes)
        on = {stage: trace(shapes, work, face) for stage, work in (("finetune", finetune), ("pretrain", pretrain))}
        forward = {mode: found.total_flops - found.flops[BACKWARD]
                   for mode, found in (("off", plain["finetune"]), ("on", on["finetune"]))}  # fmt: skip
        rows.append(
            {
                "model": name, "preset": preset, "attributes": attributes, "tiles": visual.tiles,
                "tokens": on["finetune"].llm_tokens, "added_tokens": on["finetune"].llm_tokens - finetune.tokens,
                "parameters": on["finetune"].trained[FACE], "forward": forward,
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
        "model", "preset", "attributes", "tiles", "LLM tokens", "branch", "TFLOP forward, off", "GFLOP added",
        "forward", "stage 2", "stage 1", "activations MiB, off", "added",
    ]  # fmt: skip
    cells = []
    for row in rows:
        off, on = row["forward"]["off"], row["forward"]["on"]
        before, after = row["activation_bytes"]["off"], row["activation_bytes"]["on"]
        cells.append(
            [
                row["model"], row["preset"], str(row["attributes"]), str(row["tiles"]),
                f"{row['tokens']} (+{row['added_tokens']})", f"{row['parameters'] / 1e6:.2f} M", f"{off / 1e12:.2f}",
                f"{(on - off) / 1e9:.3g}", f"x{on / off:.4f}", f"x{row['training_ratio']:.4f}",
                f"x{row['stage1_ratio']:.4f}", f"{before / 2**20:.0f}", f"+{(after - before) / 2**20:.1f}",
            ]
        )  # fmt: skip
    return Table("Presets, traced from shapes", head, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS))
    parser.add_argument("--out", type=Path, default=Path("preset_table"))
    arguments = parser.parse_args()
    rows = [row for name in arguments.models for row in rows_of(name)]
    protocol = {"images": "1024 x 1024", "text tokens": TEXT, "batch": 1, "dtype": "bf16"}
    write_tables(arguments.out, {"rows": rows, "protocol": protocol, "machine": machine("cpu")}, [table(rows)])
    show([table(rows)])
    print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
