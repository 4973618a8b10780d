"""What the benchmark compares: the sizes of the model, the ways to run it, and the pairs of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from llava_face_plugin.config import merged
from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.fusion import FUSIONS

SEED = 0
DEFAULT = "part-embedding, gated_add"
KNOWLEDGE = f"{DEFAULT}, knowledge 20"
ON_OFF = "knowledge 20 on / off (default)"
FAVCHAT, FAVCHAT_V6 = "favchat (facial, moe)", "favchat-v6 (facial, text-query)"
GROUPED = f"{FAVCHAT}, grouped"


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
    scale: int = 1
    """Widths of the facial encoder and of what reads it are the defaults divided by it, as the LLM's are 7B's."""
    from_files: bool = True
    """Weights from ``build_tiny``'s files through ``from_pretrained``; else random, made on the device."""

    @property
    def facial(self) -> dict[str, Any]:
        """Settings of the facial encoder and of its fusions that differ from the defaults."""
        if self.scale == 1:
            return {}
        # Heads of 64, as the reader of FaRL's files takes them; a tenth of the tower's FLOPs, as ViT-B/16 has at 7B.
        width = max(64, 768 // self.scale)
        vit = {"width": width, "depth": 12, "heads": width // 64, "hidden": 4 * width, "patch": 16}
        return {
            "facial": {"vit": vit, "size": 64, "width": 1024 // self.scale},
            "moe": {"hidden": 1024 // self.scale},
            "soft-gate": {"hidden": 1024 // self.scale, "width": 512 // self.scale},
            "text-query": {"width": 512 // self.scale},
        }  # fmt: skip

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


SIZES = {
    "7b": Size(4096, 32, 32, 11008, 32000, 1024, 24, 16, 4096, 336, text=64, batch=4, from_files=False),
    "small": Size(512, 12, 4, 1024, 768, 128, 12, 4, 256, 112, text=7, batch=4, scale=8),
    "medium": Size(768, 8, 6, 2048, 4096, 128, 12, 4, 256, 112, text=7, batch=2, scale=8, from_files=False),
    "tiny": Size(64, 2, 4, 128, 768, 32, 2, 4, 64, 56, text=8, batch=2, scale=16, from_files=False),
}


@dataclass(frozen=True)
class Variant:
    """One way to run the model. ``settings`` None is plain LLaVA; vision_tower "own" means a second ViT.

    ``scaled``: with the widths of ``Size.facial``, as far as ``settings`` do not say them.
    """

    label: str
    settings: dict[str, Any] | None = None
    attributes: int = 0
    scaled: bool = True

    @property
    def face(self) -> bool:
        return self.settings is not None

    @property
    def own_tower(self) -> bool:
        return self.settings is not None and "vision_tower" in self.settings["segmentation"]

    @property
    def slug(self) -> str:
        """Its label as a file name."""
        return re.sub(r"[^\w-]+", "-", self.label).strip("-")

    @property
    def facial(self) -> bool:
        return self.settings is not None and "facial" in self.settings

    def at(self, size: Size) -> dict[str, Any]:
        """Its settings in a model of that size."""
        settings = self.settings or {}
        if not self.facial:
            return settings
        vit = {"facial": size.facial.get("facial", {})}
        fusion = size.facial.get(settings["fusion"]["type"], {}) if self.scaled else {}
        return merged(merged(vit, {"fusion": fusion}), settings)


VANILLA, AGAIN = Variant("vanilla"), Variant("vanilla again (noise)")


def variants() -> list[Variant]:
    """What is in the tables, without knowledge: maps and their fusions, then what has a facial encoder."""
    return [*map_variants(), *facial_variants()]


def map_variants() -> list[Variant]:
    """Every registered segmentation encoder with every fusion that joins face tokens alone."""
    segmentations: list[tuple[str, dict[str, Any]]] = []
    for encoder in ENCODERS:
        if encoder == "vit-palette":
            segmentations.append((f"{encoder} (shared ViT)", {"encoder": encoder}))
            segmentations.append((f"{encoder} (own ViT)", {"encoder": encoder, "vision_tower": "own"}))
        else:
            segmentations.append((encoder, {"encoder": encoder}))
    return [
        Variant(f"{encoder}, {fusion}", {"segmentation": segmentation, "fusion": fused})
        for encoder, segmentation in segmentations
        for fusion, fused in _fusions()
        if not FUSIONS[fused["type"]].reads_taps
    ]


def facial_variants() -> list[Variant]:
    """The presets of FaVChat, its encoder with every other fusion, and with the parts of FaceInsight."""
    palette, parts = {"encoder": "vit-palette"}, {"encoder": "part-embedding"}
    moe, grouped = {"type": "moe"}, {"type": "moe", "dispatch": "grouped"}
    named = [
        _facial(FAVCHAT, moe), _facial(GROUPED, grouped), _facial(FAVCHAT_V6, {"type": "text-query"}),
        *(_facial(f"facial, {name}", fused) for name, fused in _fusions() if name not in ("moe", "text-query")),
        _facial(f"{FAVCHAT}, encoder trained", moe, trained=True),
        _facial("part-embedding & facial, moe", moe, parts),
        _facial("vit-palette (shared ViT) & facial, gated_add", {"type": "gated_add"}, palette),
        _facial("vit-palette (shared ViT) & facial, moe", moe, palette),
        _facial("vit-palette (shared ViT) & facial, text-query", {"type": "text-query"}, palette),
    ]  # fmt: skip
    return named


def _facial(
    label: str, fusion: dict[str, Any], segmentation: dict[str, Any] | None = None, trained: bool = False
) -> Variant:
    return Variant(
        label,
        {"segmentation": segmentation or {"encoder": None}, "facial": {"trained": trained}, "fusion": fusion},
    )


def _fusions() -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for fusion in FUSIONS:
        if fusion == "append":
            found += [(f"{fusion} pool {pool}", {"type": fusion, "pool": pool}) for pool in (1, 2)]
        else:
            found.append((fusion, {"type": fusion}))
    return found


def unscaled(variant: Variant) -> Variant:
    """The variant with its fusion's default widths, whatever the size."""
    return replace(variant, label=f"{variant.label}, default widths", scaled=False)


def by_label(label: str) -> Variant:
    """One of ``variants``."""
    return next(variant for variant in variants() if variant.label == label)


def default_variant() -> Variant:
    return by_label(DEFAULT)


def with_knowledge(variant: Variant, attributes: int) -> Variant:
    """The variant with 20 made or 40 CelebA attributes."""
    return replace(variant, label=f"{variant.label}, knowledge {attributes}", attributes=attributes)


class Comparison(NamedTuple):
    name: str
    first: Variant
    second: Variant
    factor: int
    """On the number of pairs."""


def comparisons(rows: str = "all") -> Iterator[Comparison]:
    """Grouped by ``first``. Vanilla against itself shows the machine's noise.

    ``rows``: ``maps``, ``facial`` or ``all``.
    """
    default, known = default_variant(), with_knowledge(default_variant(), 20)
    if rows != "facial":
        yield Comparison(ON_OFF, default, known, 4)
    yield Comparison(AGAIN.label, VANILLA, AGAIN, 2)
    if rows != "facial":
        others = [variant for variant in map_variants() if variant != default]
        for variant, factor in ((default, 2), (known, 2), *((v, 1) for v in others)):
            yield Comparison(variant.label, VANILLA, variant, factor)
    if rows != "maps":
        main = [by_label(label) for label in (FAVCHAT, GROUPED, FAVCHAT_V6)]
        others = [variant for variant in facial_variants() if variant not in main]
        for variant, factor in (*((v, 2) for v in [*main, *map(unscaled, main)]), *((v, 1) for v in others)):
            yield Comparison(variant.label, VANILLA, variant, factor)
        yield Comparison("grouped / dense (favchat)", main[0], main[1], 2)
