"""``llava-face adapter apply``: a face LLaVA from a plain one and an adapter, its large files left as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import guard
from ..config import KEY, FaceConfig, merged
from ..errors import FaceConfigError
from ..fusion import FUSIONS
from ..model_files import mark_processor, write_config
from ..switch import prompt_token_ids
from .adapter import FaceAdapter, projector_checksum
from .facial import placed
from .folder import FACE, ModelFolder, on_host
from .place import copy_tree, link_or_copy, new_directory
from .shards import write_index, write_shard
from .weights import Entry


@dataclass
class Applied:
    """What was done: the block as written, and remarks that a user should read."""

    face: FaceConfig
    notes: list[str] = field(default_factory=list)


def apply_adapter(
    adapter: str | Path | FaceAdapter, model_dir: str | Path, out: str | Path, *, facial: str | Path | None = None
) -> Applied:
    """Writes ``out``: the model of ``model_dir`` with the adapter's branch, switched on.

    ``model_dir`` is a whole LLaVA of any host (LLaVA 1.5's or LLaVA-NeXT's package, transformers), and is not changed.
    Its weight files are hard-linked where the file system can, else copied; the branch is one more file beside them.
    Prompts are put into the model's own token ids. ``facial``: where a frozen facial encoder's weights lie here, if not
    where they were; where they are not, a note says so.

    Raises ``FaceConfigError`` if widths, patches, tower or fusion do not fit, face weights are there already or ``out``
    exists, ``FaceDataError`` for files that cannot be read, and for a facial encoder of other weights. Nothing is left
    behind then.
    """
    loaded = adapter if isinstance(adapter, FaceAdapter) else FaceAdapter.read(adapter)
    source = Path(model_dir)
    folder = ModelFolder.open(source)
    check_fits(loaded, folder)
    done = Applied(loaded.face)
    done.face = _in_its_tokens(placed(loaded, facial, done.notes), source, done.notes)
    tensors = _for_host(loaded, folder, done.notes)
    with new_directory(Path(out)) as target:
        copy_tree(source, target, without=("config.json", *_weight_files(folder)))
        _write_weights(folder, target, tensors)
        config = dict(folder.config)
        config[KEY] = done.face.to_dict()
        guard.put_on(config)
        write_config(target, config)
        if guard.transformers_family(config):
            mark_processor(target, on=True)
    return done


def check_fits(adapter: FaceAdapter, folder: ModelFolder) -> None:
    """Raises ``FaceConfigError`` saying what does not fit."""
    path = folder.path
    if not folder.whole:
        raise FaceConfigError(
            f"{path}: a part of a model (LoRA, PEFT or a projector): merge it first, or name the whole"
        )
    if folder.branch:
        raise FaceConfigError(f"{path}: holds face weights already ({len(folder.branch)} tensors)")
    for what, ours, theirs in zip(
        ("vision features", "language model"), (adapter.vision_width, adapter.llm_width), folder.widths(), strict=True
    ):
        if ours != theirs:
            raise FaceConfigError(f"{path}: its {what} are {theirs} wide, the adapter is for {ours}")
    kind = guard.plain_projector(str(folder.config.get("mm_projector_type") or "mlp2x_gelu"))
    if folder.host == "llava" and not kind.startswith("mlp"):
        raise FaceConfigError(f"{path}: mm_projector_type is {kind!r}; face mode needs an MLP, as mlp2x_gelu")
    there = folder.vision()
    for key, value in adapter.vision.items():
        if key in there and there[key] != value:
            raise FaceConfigError(f"{path}: {key} of its vision tower is {there[key]}, the adapter's was {value}")
    if cuts_tiles(folder.config) and FUSIONS[adapter.face.fusion.type].adds_tokens:  # type: ignore[attr-defined]
        raise FaceConfigError(
            f"{path}: fusion {adapter.face.fusion.type!r} adds tokens, but this model lays tiles out by their number"
        )


def cuts_tiles(config: dict[str, Any]) -> bool:
    """Whether images are cut into tiles (anyres) by the model of this configuration."""
    family = guard.transformers_family(config)
    if family is not None:
        return family != "llava"
    return "anyres" in str(config.get("image_aspect_ratio", "")) or "spatial" in str(
        config.get("mm_patch_merge_type", "")
    )


def _in_its_tokens(face: FaceConfig, model_dir: Path, notes: list[str]) -> FaceConfig:
    """The block with the prompts in the token ids of that model."""
    if face.knowledge is None:
        return face
    attributes = face.knowledge.attributes
    ids = prompt_token_ids(model_dir, [attribute.prompt for attribute in attributes])
    changed = sum(attribute.tokens != new for attribute, new in zip(attributes, ids, strict=True))
    if not changed:
        return face
    notes.append(f"{changed} of {len(attributes)} attribute prompts have other token ids in this model's tokenizer")
    named = [
        attribute.model_dump(mode="json") | {"tokens": new} for attribute, new in zip(attributes, ids, strict=True)
    ]
    return FaceConfig.parse(merged(face.to_dict(), {"knowledge": {"attributes": named}}), f"{model_dir}/config.json")


def _for_host(adapter: FaceAdapter, folder: ModelFolder, notes: list[str]) -> dict[str, Tensor]:
    """The adapter's tensors by the names that this directory's own files would give them."""
    first = folder.layers["linear_1.weight"]
    stem = first.removesuffix(on_host("linear_1.weight", folder.host))
    here = {short: folder.weights.read(name) for short, name in folder.layers.items()}
    if adapter.projector:
        if adapter.projector.keys() != here.keys():
            raise FaceConfigError(f"{folder.path}: its projector has other layers than the adapter's")
        if projector_checksum(adapter.projector) != projector_checksum(here):
            notes.append("the projector was replaced by the adapter's")
    elif adapter.projector_sha256 and adapter.projector_sha256 != projector_checksum(here):
        notes.append(
            "the branch was trained with another projector than this model's; if that one was trained too, save the "
            "adapter --with-projector"
        )
    named = {**{FACE + name: tensor for name, tensor in adapter.tensors.items()}, **adapter.projector}
    return {stem + on_host(name, folder.host): tensor.contiguous() for name, tensor in named.items()}


def _weight_files(folder: ModelFolder) -> list[str]:
    indices = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
    return [*(file.name for file in folder.weights.files), *indices]


def _write_weights(folder: ModelFolder, target: Path, tensors: dict[str, Tensor]) -> None:
    """The model's shards, one more with ``tensors``, and the index of them all."""
    weights, files = folder.weights, folder.weights.files
    safe = files[0].suffix == ".safetensors"
    stem, suffix = ("model", ".safetensors") if safe else ("pytorch_model", ".bin")
    # One file without an index is loaded by its name alone: it gets another.
    renamed = {file: f"{stem}-base{suffix}" if file.name == stem + suffix else file.name for file in files}
    weight_map = {name: renamed[entry.file] for name, entry in weights.items()}
    for file, name in renamed.items():
        inside = {n: weights[n] for n in weights if weights[n].file == file}
        if inside.keys() & tensors.keys():
            # Loaders read whole files, whatever the index says: the old projector must not be in any.
            kept = {n: weights.read(n) for n in inside if n not in tensors}
            write_shard(target / name, kept)
        else:
            link_or_copy(file, target / name)
    weight_map |= dict.fromkeys(tensors, f"{stem}-face{suffix}")
    write_shard(target / f"{stem}-face{suffix}", tensors)
    entries = [
        *weights.values(),
        *(Entry(target, tuple(t.shape), t.dtype) for n, t in tensors.items() if n not in weights),
    ]
    write_index(target / f"{stem}{suffix}.index.json", weight_map, entries)
