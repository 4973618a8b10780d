"""What a training run leaves behind: the parser in two formats, ``report.json``, and a table to look at."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from llava_face_plugin.labels import FACE_PARTS
from llava_face_plugin.maps.files import atomic_path
from llava_face_plugin.parsing.networks.compact import CompactNet, save_compact

from .scores import DEFINITION, Scores

WEIGHTS, SCRIPTED, REPORT = "parser.safetensors", "parser.torchscript.pt", "report.json"


def export(out: Path, net: CompactNet, size: int, training: dict[str, Any]) -> dict[str, str]:
    """Write ``parser.safetensors`` and ``parser.torchscript.pt``; returns their sha256 by file name."""
    cpu = CompactNet(net.settings)
    cpu.load_state_dict({name: value.cpu() for name, value in net.state_dict().items()})
    cpu.eval().requires_grad_(False)
    digests = {WEIGHTS: save_compact(out / WEIGHTS, cpu, size=size, training=training)}
    traced = torch.jit.trace(cpu, torch.zeros(1, 3, size, size), check_trace=False)
    with atomic_path(out / SCRIPTED) as temporary:
        torch.jit.save(traced, str(temporary))
    digests[SCRIPTED] = hashlib.sha256((out / SCRIPTED).read_bytes()).hexdigest()
    return digests


def write_report(out: Path, facts: dict[str, Any], scores: Scores, digests: dict[str, str]) -> None:
    """Write ``report.json``: the scores, what they are, and everything in ``facts``."""
    report = {"definition": DEFINITION, **asdict(scores), **facts, "sha256": digests}
    with atomic_path(out / REPORT) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def table(scores: Scores, title: str) -> Table:
    """F1 of each part, and the three summaries."""
    out = Table("part", "F1", "share of pixels", title=title)
    total = max(1, sum(scores.pixels.values()))
    for part in FACE_PARTS:
        value = scores.f1[part]
        out.add_row(part, "-" if value is None else f"{value:.3f}", f"{scores.pixels[part] / total:.2%}")
    out.add_section()
    out.add_row("mean F1, 19 classes", f"{scores.mean_f1:.4f}", "")
    out.add_row("mean F1 without background", f"{scores.mean_f1_without_background:.4f}", "")
    out.add_row("mean F1 of images", f"{scores.mean_f1_of_images:.4f}", "")
    out.add_row("pixel accuracy", f"{scores.pixel_accuracy:.4f}", "")
    return out


def usage(out: Path, size: int) -> str:
    """How the two files are used."""
    digest = hashlib.sha256((out / SCRIPTED).read_bytes()).hexdigest()
    start, end = "llava-face segment photos --out store", "--detector yunet --detector-path yunet_n_640_640.onnx"
    return (
        f"\nMake maps with either file (--detector assume_cropped for cropped faces):\n\n"
        f"  {start} --parser compact --path {out / WEIGHTS} {end}\n"
        f"  {start} --parser torchscript --path {out / SCRIPTED} --size {size} --sha256 {digest} {end}"
    )
