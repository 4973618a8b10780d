"""The doctor's look at the facial encoder that a model directory names, and at its fusion."""

from __future__ import annotations

import torch

from ..config import FaceConfig
from ..encoders.vit import VisionTransformer
from ..errors import FaceError
from ..facial_config import FacialConfig
from ..facial_files import check_weights
from ..fusion import FUSIONS
from .doctor import Level, Report

CURE = "put them there, or set face.facial.path in config.json"


def check_facial(report: Report, facial: FacialConfig | None, names: list[str]) -> None:
    """Loads the weights once, on the CPU, where they are not in the checkpoint.

    ``names``: the face tensors that the directory holds.
    """
    if facial is None:
        return
    saved = facial.trained and any(".face.facial." in name for name in names)
    if facial.trained and names and not saved:
        report.add("problem", "facial encoder", "trained, but the checkpoint's face weights have none of it")
        return
    try:
        if facial.path is not None and not saved:
            check_weights(facial)
    except FaceError as error:
        report.add("problem", "facial encoder", f"{error}: {CURE}")
        return
    report.add("ok", "facial encoder", _described(facial, saved))


def _described(facial: FacialConfig, saved: bool) -> str:
    with torch.device("meta"):
        vit = VisionTransformer(facial.vit, facial.grid, facial.taps[-1] + 1)
    size = sum(parameter.numel() for parameter in vit.parameters()) / 1e6
    place = "in the checkpoint" if saved else f"from {facial.path}" if facial.path else "fresh"
    held = f"trained and saved with the branch, {place}" if facial.trained else f"frozen, read {place}"
    shape = f"{facial.vit.width} wide, {len(vit.blocks)} of {facial.vit.depth} blocks, {size:.1f} M parameters"
    return f"{facial.encoder}, {held}: {shape}, taps {', '.join(map(str, facial.taps))}, shown {facial.size} px"


def check_fusion(report: Report, face: FaceConfig) -> None:
    """What a mixture of experts and a fusion that reads the prompt are set to."""
    fusion, branch = face.fusion, FUSIONS[face.fusion.type]
    if fusion.type == "moe":
        losses = f"balance {fusion.balance_weight:g} over the {fusion.balance_over}, router z {fusion.z_weight:g}"
        detail = f"{fusion.experts} experts, {fusion.top_k} a patch, {fusion.dispatch} dispatch, loss weights: {losses}"
        level: Level = "ok"
        if fusion.experts > 1 and fusion.top_k < fusion.experts and fusion.balance_weight == 0:
            level, detail = "warning", f"{detail}: nothing keeps the router from choosing the same experts always"
        report.add(level, "experts", detail)
    if branch.reads_prompt:  # type: ignore[attr-defined]
        report.add("ok", "prompt", "the fusion reads it: an image is encoded anew for each question about it")
