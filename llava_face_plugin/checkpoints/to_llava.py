"""From transformers' Llava classes to LLaVA's own packages: LLaVA 1.5's (llava 1.2.2) and LLaVA-NeXT's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import guard
from ..model_files import read_config, write_config
from .folder import ModelFolder
from .language import kind_of_transformers, llava_classes, portable
from .plan import Plan, check_face, model_pieces, padded, refuse, tower_pieces, turned
from .tokenizer import read_tokenizer, removable, write_without
from .tower import CLIP, SIGLIP, Tower, tower_of_transformers

TOWER = "vision_tower"
"""The folder inside the new directory that a CLIP tower is written to."""

SIGLIP_NAME = "google/siglip-so400m-patch14-384"
"""What LLaVA-NeXT builds for a name with "siglip" in it, whatever its files say: width, side and patch below."""

_SIGLIP = {"hidden_size": 1152, "image_size": 384, "patch_size": 14}


def to_llava(folder: ModelFolder, package: str, out: Path, vision_tower: str | None) -> Plan:
    """``package``: ``llava`` or ``llava-next``. ``out``: where the directory will be, for its tower is named by path.

    Raises ``FaceConfigError`` naming what that package has no form of.
    """
    config, where = folder.config, folder.path
    family = str(guard.transformers_family(config))
    tower = tower_of_transformers(folder)
    kind = kind_of_transformers(config, where)
    _check(config, where, family, tower, kind, package)
    check_face(folder, family != "llava", tower)
    text = portable(
        {k: v for k, v in config["text_config"].items() if k not in ("_name_or_path", "transformers_version")}
    )
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    rows = _rows(folder)
    own = vision_tower is None and tower.kind == CLIP
    named = str((out / TOWER).absolute()) if own else vision_tower or SIGLIP_NAME
    written = _config(config, family, tower, text, folder.widths()[0])
    # LLaVA-NeXT builds its tower with the model: what the checkpoint lacks of it, transformers 4.57 leaves unset.
    inside = package == "llava-next" or not own
    written |= {**llava_classes(kind), "mm_vision_tower": named, "unfreeze_mm_vision_tower": inside}
    written |= {"vocab_size": rows, "tie_word_embeddings": tied}
    if int(written.get("pad_token_id") or 0) >= rows:
        written["pad_token_id"] = None
    pieces = model_pieces(folder, "llava", rows, newline=family != "llava", tied=tied)
    if inside:
        pieces += tower_pieces(tower, "model.vision_tower.vision_tower.vision_model.")

    def write_files(target: Path) -> None:
        write_without(where, target)
        _write_generation(where, target, rows)
        if own:
            _write_tower(target / TOWER, tower)

    notes = [f"the vision tower is named by its path: if {out} is moved, change mm_vision_tower"] if own else []
    if kind == "llama" and not (where / "tokenizer.model").exists():
        notes.append("there is no tokenizer.model, which LLaVA's loader wants for Llama on transformers 4")
    if "llava" not in out.name.lower():
        notes.append(f"LLaVA's loader goes by names: call the directory something with 'llava', not {out.name!r}")
    aside = tower_pieces(tower, "vision_model.") if own else []
    return Plan(str(written["model_type"]), written, pieces, write_files, aside, notes)


def _check(config: Mapping[str, Any], where: Path, family: str, tower: Tower, kind: str, package: str) -> None:
    layer = config.get("vision_feature_layer", -1 if family == "llava_onevision" else -2)
    siglip = tower.kind == SIGLIP
    shape = {key: tower.config.get(key) for key in _SIGLIP}
    for wrong, why in (
        (family == "llava_next_video", "LlavaNextVideo pools video frames in a way of its own"),
        (package == "llava" and kind != "llama", f"llava 1.2.2 with face mode has no {kind}: try --to llava-next"),
        (package == "llava" and siglip, "llava 1.2.2 has no SigLIP: try --to llava-next"),
        (package == "llava" and family == "llava_onevision", "llava 1.2.2 has no anyres_max: try --to llava-next"),
        (not isinstance(layer, int), f"vision_feature_layer {layer}: LLaVA reads one layer"),
        (siglip and layer != -1, f"vision_feature_layer {layer}: LLaVA-NeXT reads the end of a SigLIP"),
        (siglip and shape != _SIGLIP, f"its SigLIP is {shape}, and LLaVA-NeXT has {_SIGLIP} built in"),
        (config.get("projector_hidden_act", "gelu") != "gelu", "projector_hidden_act is not gelu"),
        (not config.get("multimodal_projector_bias", True), "multimodal_projector_bias is false"),
        (bool(config.get("quantization_config")), "quantization_config: weights of 4 or 8 bits"),
        (family != "llava" and not config.get("image_grid_pinpoints"), "image_grid_pinpoints is missing"),
    ):
        if wrong:
            raise refuse(where, why)


def _rows(folder: ModelFolder) -> int:
    """Rows of the vocabulary without those that a conversion to transformers added."""
    embedding = next(entry for name, entry in folder.weights.items() if name.endswith("embed_tokens.weight"))
    gone = removable(read_tokenizer(folder.path).get_vocab())
    base = min(gone.values(), default=0)
    return base if gone and embedding.shape[0] == padded(base + len(gone)) else embedding.shape[0]


def _config(config: Mapping[str, Any], family: str, tower: Tower, text: dict[str, Any], width: int) -> dict[str, Any]:
    strategy = config.get("vision_feature_select_strategy", "full" if family == "llava_onevision" else "default")
    out = {
        **text,
        "mm_hidden_size": width,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": config.get("vision_feature_layer", -1 if family == "llava_onevision" else -2),
        "mm_vision_select_feature": "patch" if strategy == "default" or tower.kind == SIGLIP else "cls_patch",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "use_mm_proj": True,
        "tokenizer_padding_side": "right",
        "tokenizer_model_max_length": text.get("max_position_embeddings", 2048),
    }
    if config.get("torch_dtype") or config.get("dtype"):
        out["torch_dtype"] = config.get("torch_dtype") or config.get("dtype")
    if family == "llava":
        return out | {"image_aspect_ratio": "pad" if tower.processor.get("do_pad") else None}
    ratio = "anyres" if family == "llava_next" else config.get("vision_aspect_ratio", "anyres_max_9")
    return out | {
        "image_aspect_ratio": ratio,
        "mm_patch_merge_type": "spatial_unpad",
        "image_grid_pinpoints": turned(config["image_grid_pinpoints"]),
        **({"mm_newline_position": "one_token"} if family == "llava_onevision" else {}),
    }


def _write_generation(source: Path, target: Path, rows: int) -> None:
    if not (source / "generation_config.json").exists():
        return
    generation = read_config(source, "generation_config.json")
    if int(generation.get("pad_token_id") or 0) >= rows:
        generation.pop("pad_token_id")
    write_config(target, generation, "generation_config.json")


def _write_tower(folder: Path, tower: Tower) -> None:
    """What LLaVA's CLIP tower is loaded from, besides its weights."""
    folder.mkdir(exist_ok=True)
    write_config(folder, {"architectures": ["CLIPVisionModel"], **tower.config})
    side = tower.config.get("image_size", 224)
    kept = ("do_resize", "do_rescale", "rescale_factor", "do_normalize", "do_convert_rgb", "resample", "image_mean",
            "image_std")  # fmt: skip
    images: dict[str, Any] = {"image_processor_type": "CLIPImageProcessor", "do_center_crop": True}
    images |= {"crop_size": {"height": side, "width": side}, "size": {"shortest_edge": side}}
    write_config(
        folder, images | {k: tower.processor[k] for k in kept if k in tower.processor}, "preprocessor_config.json"
    )
