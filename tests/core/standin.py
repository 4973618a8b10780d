"""A stand-in for a host: a projector, vision features and a frozen ViT, in plain torch."""

from __future__ import annotations

import atexit
import functools
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.fusion import FUSIONS, Layers, MixtureOfExperts, Prompt
from llava_face_plugin.fusion.experts import route

VISION, LLM = 12, 16
HAIR = 13

KNOWLEDGE: dict[str, Any] = {
    "file": "made",
    "attributes": [
        {"name": "Bald", "prompt": "bald", "tokens": [3], "prior": 0.1},
        {"name": "Bangs", "prompt": "bangs", "tokens": [4, 5, 6], "prior": 0.3},
        {"name": "Smiling", "prompt": "smiling", "tokens": [7, 8], "prior": 0.5},
    ],
    "graph": {"Bald": {"Smiling": 0.6}, "Bangs": {"Smiling": 0.5, "Bald": 0.8}},
    "rules": [{"kind": "implication", "if": ["Bald"], "then": ["not Bangs"], "group": "hair"}],
    "hidden": 8,
}

# Small in every width, and with every setting that a type has.
FUSION_FORMS: dict[str, list[dict[str, Any]]] = {
    "append": [{}, {"pool": 2}],
    "moe": [{"hidden": 8, "balance_over": "batch"}, {"hidden": 8, "dispatch": "grouped", "z_weight": 0.1}],
    "soft-gate": [{"hidden": 8, "width": 8}],
    "text-query": [{"width": 8, "heads": 2, "queries": 3}],
}
# Every registered segmentation encoder, the facial encoder frozen and trained, and one with both.
ENCODER_FORMS = [*ENCODERS, "facial", "facial-trained", "part-embedding & facial"]
COMBINATIONS = [
    (encoder, {"type": fusion, **form})
    for encoder in ENCODER_FORMS
    for fusion in FUSIONS
    for form in FUSION_FORMS.get(fusion, [{}])
]


def fusion_name(fusion: dict[str, Any]) -> str:
    """``{"type": "moe", "dispatch": "grouped", ...}`` -> ``"moe/grouped"``."""
    return "/".join(str(v) for k, v in fusion.items() if k in ("type", "pool", "dispatch"))


FUSION_BLOCKS = {fusion_name(fusion): fusion for _, fusion in COMBINATIONS}
NAMES = [f"{encoder}+{fusion_name(fusion)}" for encoder, fusion in COMBINATIONS]


def config(encoder: str, fusion: dict[str, Any], knowledge: dict[str, Any] | None = KNOWLEDGE) -> FaceConfig:
    """``encoder``: one of ``ENCODER_FORMS``."""
    return FaceConfig.parse({**encoder_blocks(encoder), "fusion": fusion, "knowledge": knowledge})


def encoder_blocks(encoder: str, width: int = 8, **trained: Any) -> dict[str, Any]:
    """``segmentation`` and ``facial`` of one of ``ENCODER_FORMS``; ``trained`` changes a trained facial encoder."""
    blocks: dict[str, Any] = {"segmentation": {"encoder": None}}
    for part in encoder.split(" & "):
        if part == "facial":
            blocks["facial"] = facial_block()
        elif part == "facial-trained":
            blocks["facial"] = facial_block(trained=True, **trained)
        else:
            blocks["segmentation"] = {"encoder": part, "width": width}
    return blocks


def facial_block(**changes: Any) -> dict[str, Any]:
    """A facial encoder of the weights in ``tiny_farl``."""
    vit = {"width": 64, "depth": 3, "heads": 1, "hidden": 96, "patch": 4}
    return {"path": tiny_farl(), "taps": [0, 2], "size": 12, "width": 8, "vit": vit, **changes}


@functools.cache
def tiny_farl() -> str:
    """A random checkpoint in FaRL's format, its image tower as in ``facial_block``, but for images of 16 pixels."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-farl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.save({"state_dict": farl_state(), "epoch": 16}, folder / "farl.pth")
    return str(folder / "farl.pth")


def farl_state(width: int = 64, depth: int = 3, hidden: int = 96, patch: int = 4, grid: int = 4) -> dict[str, Tensor]:
    """The names and shapes of FaRL's checkpoint (facer/farl/model.py, and OpenAI's CLIP for the text tower)."""
    random = torch.Generator().manual_seed(7)
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (width,), "visual.positional_embedding": (1 + grid**2, width),
        "visual.proj": (width, 32), "visual.conv1.weight": (width, 3, patch, patch), "visual.mask_token": (width,),
        "visual.ln_lm.weight": (width,), "visual.ln_lm.bias": (width,), "visual.lm_head.weight": (50, width),
        "visual.lm_head.bias": (50,), "positional_embedding": (77, 32), "text_projection": (32, 32),
        "logit_scale": (), "token_embedding.weight": (40, 32), "ln_final.weight": (32,), "ln_final.bias": (32,),
    }  # fmt: skip
    for norm in ("ln_pre", "ln_post"):
        shapes |= {f"visual.{norm}.weight": (width,), f"visual.{norm}.bias": (width,)}
    towers = (("visual.transformer", width, depth), ("visual.lm_transformer", width, 1), ("transformer", 32, 2))
    for tower, wide, blocks in towers:
        for block in (f"{tower}.resblocks.{n}." for n in range(blocks)):
            inner = hidden if wide == width else 64
            layers = {"attn.out_proj": (wide, wide), "mlp.c_fc": (inner, wide), "mlp.c_proj": (wide, inner)}
            for layer, shape in layers.items():
                shapes |= {f"{block}{layer}.weight": shape, f"{block}{layer}.bias": shape[:1]}
            for norm in ("ln_1", "ln_2"):
                shapes |= {f"{block}{norm}.weight": (wide,), f"{block}{norm}.bias": (wide,)}
            shapes |= {f"{block}attn.in_proj_weight": (3 * wide, wide), f"{block}attn.in_proj_bias": (3 * wide,)}
    return {name: 0.2 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


def projector(seed: int = 0) -> nn.Sequential:
    """As LLaVA's ``mlp2x_gelu``."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(VISION, LLM), nn.GELU(), nn.Linear(LLM, LLM))


def branch(encoder: str, fusion: dict[str, Any], seed: int = 1) -> FaceBranch:
    torch.manual_seed(seed)
    return FaceBranch(config(encoder, fusion), VISION, LLM)


def features(batch: int, grid: int, seed: int = 2) -> Tensor:
    return torch.randn(batch, grid * grid, VISION, generator=torch.Generator().manual_seed(seed))


def pictures(batch: int, size: int = 16, seed: int = 8) -> Tensor:
    """(B, 3, size, size) random RGB in [0, 1]."""
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def prompts(batch: int, length: int = 5, seed: int = 9) -> Prompt:
    """Random prompts of different lengths; every second image has none."""
    tokens = torch.randn(batch, length, LLM, generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([length - n if n % 2 == 0 else 0 for n in range(batch)])
    return Prompt(tokens, torch.arange(length)[None] < lengths[:, None])


def run(
    face: FaceBranch, plain: nn.Module, seen: Tensor, label_map: Tensor | None, of: slice = slice(None), **kwargs: Any
) -> Tensor:
    """The branch with all that a host can hand in. ``of``: which images of the batch are shown to it."""
    everything = everything_of(len(seen), of)
    modules = list(plain.children())
    return face(Layers(modules), seen[of], None if label_map is None else label_map[of], **{**everything, **kwargs})


def everything_of(batch: int, of: slice = slice(None)) -> dict[str, Any]:
    """What a host hands in besides features and map."""
    tokens, mask, _ = prompts(batch)
    return {"vit": FrozenStandIn(), "rgb": pictures(batch)[of], "prompt": Prompt(tokens[of], mask[of])}


def maps(batch: int, size: int = 20, seed: int = 3) -> Tensor:
    """(B, size, size) random part ids."""
    ids = torch.randint(0, 19, (batch, size, size), generator=torch.Generator().manual_seed(seed))
    return ids.float()


class FrozenStandIn:
    """RGB (B, 3, H, W) -> (B, side^2, VISION) float32: each patch sees its own mean colour."""

    def __init__(self, side: int = 4) -> None:
        self.side = side
        self.weight = torch.randn(3, VISION, generator=torch.Generator().manual_seed(4))

    def __call__(self, rgb: Tensor) -> Tensor:
        assert rgb.shape[1] == 3 and rgb.dtype == torch.float32
        assert rgb.min() >= 0 and rgb.max() <= 1
        pooled = F.adaptive_avg_pool2d(rgb, self.side).flatten(2).transpose(1, 2)
        return 3 * pooled @ self.weight


def open_gates(module: nn.Module, seed: int = 5) -> None:
    """Random values everywhere, gates included: as after some training."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))


FEW = 0.25
"""So small a share of the patches may be those whose tokens a host drops (padding of tiles): no gradient comes back."""


def watch_experts(model: nn.Module, share: float = FEW) -> set[str]:
    """``"experts.2."`` and so on for those that no forward since has given more than ``share`` of its patches.

    The set shrinks with each forward; it is empty for a model without a mixture of experts. A fresh router may leave an
    expert out, and then that learns nothing in that step.
    """
    fusion = next((module for module in model.modules() if isinstance(module, MixtureOfExperts)), None)
    if fusion is None:
        return set()
    few = {f"experts.{k}." for k in range(fusion.config.experts)}

    def note(router: nn.Module, args: Any, logits: Tensor) -> None:
        chosen = route(logits.detach(), fusion.config.top_k).chosen.float().mean(dim=(0, 1))
        few.difference_update(f"experts.{k}." for k in (chosen > share).nonzero().flatten().tolist())

    fusion.router.register_forward_hook(note)
    return few


def loss(face: FaceBranch, tokens: Tensor) -> Tensor:
    """A loss through the tokens, as the LLM's, and one through the knowledge head."""
    random = torch.Generator().manual_seed(6)
    total = (tokens * torch.randn(tokens.shape, generator=random)).mean()
    if face.knowledge is None:
        return total
    ids, _ = face.knowledge.prompt_tokens(tokens.device)
    embedding = torch.randn(10, LLM, generator=random)
    labels = torch.tensor([[1, 0, -1], [0, 1, 1]], dtype=torch.int8).repeat(math.ceil(len(tokens) / 2), 1)
    losses = face.knowledge.losses(face.knowledge(tokens, embedding[ids]), labels[: len(tokens)])
    return total + face.knowledge.weighted(losses)
