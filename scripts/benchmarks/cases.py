"""What the benchmark compares: the sizes of the model, the ways to run it, and the pairs of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.fusion import FUSIONS

SEED = 0
DEFAULT = "part-embedding, gated_add"
KNOWLEDGE = f"{DEFAULT}, knowledge 20"
ON_OFF = "knowledge 20 on / off (default)"


@dataclass(frozen=True)
class Size:
    """Shapes of a LLaVA model, and of the batch it is measured with (``text`` tokens besides the image's)."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    vision_intermediate: int
    image_size: int
    text: int
    batch: int
    patch_size: int = 14
    from_files: bool = True
    """Weights from ``build_tiny``'s files through ``from_pretrained``; else random, made on the device."""

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


SIZES = {
    "7b": Size(4096, 32, 32, 11008, 32000, 1024, 24, 16, 4096, 336, text=64, batch=4, from_files=False),
    "small": Size(512, 12, 4, 1024, 768, 128, 12, 4, 256, 112, text=7, batch=4),
    "medium": Size(768, 8, 6, 2048, 4096, 128, 12, 4, 256, 112, text=7, batch=2, from_files=False),
    "tiny": Size(64, 2, 4, 128, 768, 32, 2, 4, 64, 56, text=8, batch=2, from_files=False),
}


@dataclass(frozen=True)
class Variant:
    """One way to run the model. ``settings`` None is plain LLaVA; vision_tower "own" means a second ViT."""

    label: str
    settings: dict[str, Any] | None = None
    attributes: int = 0

    @property
    def face(self) -> bool:
        return self.settings is not None

    @property
    def own_tower(self) -> bool:
        return self.settings is not None and "vision_tower" in self.settings["segmentation"]


VANILLA, AGAIN = Variant("vanilla"), Variant("vanilla again (noise)")


def variants() -> list[Variant]:
    """Every registered encoder with every registered fusion, without knowledge."""
    segmentations: list[tuple[str, dict[str, Any]]] = []
    for encoder in ENCODERS:
        if encoder == "vit-palette":
            segmentations.append((f"{encoder} (shared ViT)", {"encoder": encoder}))
            segmentations.append((f"{encoder} (own ViT)", {"encoder": encoder, "vision_tower": "own"}))
        else:
            segmentations.append((encoder, {"encoder": encoder}))
    fusions: list[tuple[str, dict[str, Any]]] = []
    for fusion in FUSIONS:
        if fusion == "append":
            fusions += [(f"{fusion} pool {pool}", {"type": fusion, "pool": pool}) for pool in (1, 2)]
        else:
            fusions.append((fusion, {"type": fusion, "pool": 1}))
    return [
        Variant(f"{encoder}, {fusion}", {"segmentation": segmentation, "fusion": fused})
        for encoder, segmentation in segmentations
        for fusion, fused in fusions
    ]


def default_variant() -> Variant:
    return next(variant for variant in variants() if variant.label == DEFAULT)


def with_knowledge(variant: Variant, attributes: int) -> Variant:
    """The variant with 20 made or 40 CelebA attributes."""
    return replace(variant, label=f"{variant.label}, knowledge {attributes}", attributes=attributes)


class Comparison(NamedTuple):
    name: str
    first: Variant
    second: Variant
    factor: int
    """On the number of pairs."""


def comparisons() -> Iterator[Comparison]:
    """Grouped by ``first``. Vanilla against itself shows the machine's noise."""
    default, known = default_variant(), with_knowledge(default_variant(), 20)
    others = [variant for variant in variants() if variant != default]
    yield Comparison(ON_OFF, default, known, 4)
    for variant, factor in ((AGAIN, 2), (default, 2), (known, 2), *((v, 1) for v in others)):
        yield Comparison(variant.label, VANILLA, variant, factor)
