"""Part 1, counted: parameters, bytes, LLM tokens and FLOPs on the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from cases import FAVCHAT, VANILLA, Size, Variant, by_label, default_variant
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from llava_face_plugin.config import FaceConfig, FusionConfig, merged
from llava_face_plugin.fusion import Auxiliary, Layers, Prompt
from llava_face_plugin.planning.branches import EvenShares, branch_of
from llava_face_plugin.planning.face import WEIGHTS, knowledge_block

TRAINED_BYTES = 16
"""A trained parameter: bf16 weight 2 + bf16 gradient 2 + fp32 master 4 + two fp32 Adam moments 8."""
FROZEN_BYTES = 2


def llm_flops(size: Size, tokens: int) -> int:
    """One forward of the LLM: every position through the head, attention without the causal saving."""
    linear = 4 * size.hidden**2 + 3 * size.hidden * size.intermediate
    layer = 2 * tokens * linear + 4 * tokens**2 * size.hidden
    return size.layers * layer + 2 * tokens * size.hidden * size.vocabulary


def tower_flops(size: Size) -> int:
    """One forward of the vision tower over one image (all layers run, whichever is read)."""
    width, tokens = size.vision_hidden, size.patches + 1
    linear = 4 * width**2 + 2 * width * size.vision_intermediate
    patch_embedding = 2 * size.patches * 3 * size.patch_size**2 * width
    return patch_embedding + size.vision_layers * (2 * tokens * linear + 4 * tokens**2 * width)


def vision_config(size: Size) -> Any:
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=size.vision_hidden, intermediate_size=size.vision_intermediate,
        num_hidden_layers=size.vision_layers, num_attention_heads=size.vision_heads,
        patch_size=size.patch_size, image_size=size.image_size,
    )  # fmt: skip


def llm_parameters(size: Size) -> int:
    layer = 4 * size.hidden**2 + 3 * size.hidden * size.intermediate + 2 * size.hidden
    return size.layers * layer + size.hidden + 2 * size.vocabulary * size.hidden


def tower_parameters(size: Size) -> int:
    from transformers import CLIPVisionModel

    with torch.device("meta"):
        return count(CLIPVisionModel(vision_config(size)))


def count(module: nn.Module, trained: bool | None = None) -> int:
    """All parameters, or those that are trained, or those that are not."""
    return sum(p.numel() for p in module.parameters() if trained in (None, p.requires_grad))


def projector(size: Size) -> list[nn.Module]:
    """LLaVA 1.5's mlp2x_gelu."""
    return [nn.Linear(size.vision_hidden, size.hidden), nn.GELU(), nn.Linear(size.hidden, size.hidden)]


def face_config(variant: Variant, size: Size, weights: str = WEIGHTS) -> FaceConfig:
    """``weights``: the facial encoder's path, where the model is to run."""
    block = merged({"enabled": True}, variant.at(size))
    if variant.facial:
        block["facial"]["path"] = weights
    if variant.own_tower:
        block["segmentation"]["vision_width"] = size.vision_hidden
    if variant.attributes:
        block["knowledge"] = knowledge_block(variant.attributes)
    return FaceConfig.parse(block)


@dataclass
class Counted:
    """One variant at one size: absolute extras, and the ratios to plain LLaVA (``*_ratio``, 1 = free)."""

    label: str
    trained_parameters: int
    frozen_parameters: int
    weight_bytes: int
    training_bytes: int
    tokens: int
    forward_flops: float
    training_flops: float
    weight_ratio: float
    training_bytes_ratio: float
    forward_ratio: float
    training_ratio: float
    """Stage 2: every LLM weight trained (backward = 2 forwards), the tower frozen."""
    stage1_ratio: float
    """Stage 1: the LLM frozen, its activations' gradient needed (backward = 1 forward)."""


def counted(size: Size, chosen: list[Variant], batch: int = 1) -> list[Counted]:
    """Extras per image. The knowledge head refines its prompts once a batch: batch 1 is its worst case."""
    tower, base_tokens = tower_flops(size), size.patches + size.text
    base_llm = llm_flops(size, base_tokens)
    plain = _run(size, VANILLA, batch)
    tower_params = tower_parameters(size)
    with torch.device("meta"):
        trained = llm_parameters(size) + sum(count(m) for m in projector(size))
    weights = FROZEN_BYTES * (trained + tower_params)
    state = TRAINED_BYTES * trained + FROZEN_BYTES * tower_params
    rows = []
    for variant in chosen:
        run = _run(size, variant, batch)
        added = run.tokens - size.patches
        llm = llm_flops(size, base_tokens + added) - base_llm
        own = run.frozen + (tower_params if variant.own_tower else 0)
        forward, training = run.forward - plain.forward, run.training - plain.training
        more_weights = FROZEN_BYTES * (run.parameters + own)
        more_state = TRAINED_BYTES * run.parameters + FROZEN_BYTES * own
        rows.append(
            Counted(
                variant.label, run.parameters, own, more_weights, more_state, added,
                forward_flops=forward + llm,
                training_flops=training + 3 * llm,
                weight_ratio=1 + more_weights / weights,
                training_bytes_ratio=1 + more_state / state,
                forward_ratio=1 + (forward + llm) / (base_llm + tower + plain.forward),
                training_ratio=1 + (training + 3 * llm) / (3 * base_llm + tower + plain.training),
                stage1_ratio=1 + (training + 2 * llm) / (2 * base_llm + tower + plain.training),
            )
        )  # fmt: skip
    return rows


class _Run(NamedTuple):
    """Projector with or without branch: FLOPs an image, forward and in all; tokens out; the branch's parameters."""

    forward: float
    training: float
    tokens: int
    parameters: int
    frozen: int
    """Of the facial encoder."""


def _run(size: Size, variant: Variant, batch: int) -> _Run:
    from transformers import CLIPVisionModel

    with torch.device("meta"):
        layers = Layers(projector(size))
        features = torch.empty(batch, size.patches, size.vision_hidden)
        label_map = torch.empty(batch, size.image_size, size.image_size)
        rgb = torch.empty(batch, 3, size.image_size, size.image_size)
        face = face_config(variant, size) if variant.face else None
        branch = branch_of(face, size.vision_hidden, size.hidden) if face is not None else None
        prompt = Prompt(torch.empty(batch, size.text, size.hidden), torch.ones(batch, size.text, dtype=torch.bool))
        vit = CLIPVisionModel(vision_config(size))

    @torch.no_grad()
    def read(rgb: Tensor) -> Tensor:
        return vit(rgb).last_hidden_state[:, 1:]

    auxiliary = Auxiliary()
    with EvenShares(face.fusion if face else FusionConfig()), FlopCounterMode(display=False) as forward:
        if branch is None:
            tokens = layers(features)
        else:
            tokens = branch(layers, features, label_map, read, rgb, prompt, auxiliary)
        loss = tokens.sum()
        if (weighted := auxiliary.weighted()) is not None:
            loss = loss + weighted
        if branch is not None and branch.knowledge is not None:
            head, attributes = branch.knowledge, len(branch.knowledge.config.attributes)
            logits = head(tokens, torch.empty(attributes, 3, size.hidden, device="meta"))
            labels = torch.empty(batch, attributes, dtype=torch.int8, device="meta")
            loss = loss + head.weighted(head.losses(logits, labels))
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    once, back = forward.get_total_flops() / batch, backward.get_total_flops() / batch
    trained, frozen = (count(branch, True), count(branch, False)) if branch is not None else (0, 0)
    return _Run(once, once + back, tokens.shape[1], trained, frozen)


def proportions(size: Size) -> str:
    """The size's shares of forward FLOPs, to hold against the 7B model's."""
    llm, tower = llm_flops(size, size.patches + size.text), tower_flops(size)
    default, favchat = (row.forward_flops for row in counted(size, [default_variant(), by_label(FAVCHAT)]))
    total = llm + tower
    shares = {"LLM": llm, "tower": tower, "default branch (extra)": default, "favchat (extra)": favchat}
    return ", ".join(f"{name} {100 * flops / total:.2f} %" for name, flops in shares.items())
