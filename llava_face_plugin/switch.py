"""``enable`` and ``disable``: writing the ``face`` block of a model directory's ``config.json``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from . import guard
from .config import KEY, PRESETS, FaceConfig, KnowledgeConfig, merged
from .encoders import ENCODERS, READERS
from .encoders.vit_weights import fit
from .errors import FaceConfigError, FaceDataError, FaceHostError
from .facial_config import FacialConfig
from .facial_files import checkpoint_of
from .fusion import FUSIONS
from .knowledge.check import contradiction, texts
from .knowledge.file import Knowledge
from .knowledge.graph import edges
from .model_files import mark_auto_map, mark_processor, read_config, write_config
from .registry import unknown_name

MADE = "made"
"""``--knowledge made``: the knowledge of the drawn faces, built on the spot."""


def enable(
    model_dir: str | Path,
    *,
    preset: str = "light",
    knowledge: str | Path | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    without: Sequence[str] = (),
    out: str | Path | None = None,
    auto_map: bool = False,
) -> FaceConfig:
    """Switches face mode on in a model directory.

    Args:
        model_dir: a LLaVA checkpoint, or the LLM a LLaVA training starts from (Vicuna).
        preset: ``light``, ``faceinsight``, ``favchat`` or ``favchat-v6``; the last two need ``facial.path`` among the
            ``settings``.
        knowledge: a knowledge file of ``llava-face prepare``, or ``"made"``. The
            preset ``faceinsight`` needs one and takes ``made`` if none is given.
        settings: ``"fusion.type=append"`` and the like, or a nested mapping; laid over the preset.
        without: rule groups to leave out, for example ``["gender"]``.
        out: write there instead: a new directory of links to the model's files and its own ``config.json``.
        auto_map: for transformers' own classes: who loads the directory with ``trust_remote_code=True`` need not import
            the plugin (see ``mark_auto_map``).

    Returns:
        The block as written. Raises ``FaceConfigError`` or ``FaceDataError`` before anything is changed.
    """
    model_dir = Path(model_dir)
    config = read_config(model_dir)
    if preset not in PRESETS:
        raise FaceConfigError(unknown_name("preset", preset, PRESETS))
    _check_projector(config, model_dir)
    block = merged({"preset": preset}, PRESETS[preset])
    overrides = settings if isinstance(settings, Mapping) else parse_settings(settings)
    _check_settings(overrides)
    if knowledge is None and preset == "faceinsight":
        knowledge = MADE
    if knowledge is not None:
        tau = overrides.get("knowledge", {}).get("tau", KnowledgeConfig.model_fields["tau"].default)
        block["knowledge"] = resolve_knowledge(model_dir, knowledge, tau, without)
    elif without:
        raise FaceConfigError("--without names rule groups of a knowledge file: give --knowledge FILE too")
    overrides = _with_absolute_paths(overrides)
    face = _with_vision_width(_with_facial_weights(block, overrides, f"{model_dir}/config.json"))
    check_names(face)
    _check_family(face, config, model_dir, auto_map)
    target = _linked_copy(model_dir, Path(out)) if out is not None else model_dir
    config[KEY] = face.to_dict()
    guard.put_on(config)
    write_config(target, config)
    if guard.transformers_family(config):
        mark_processor(target, on=True)
        mark_auto_map(target, on=auto_map)
    return face


def disable(model_dir: str | Path) -> bool:
    """Switches face mode off: removes the block and the guard. Returns whether there was any to remove."""
    model_dir = Path(model_dir)
    config = read_config(model_dir)
    found = config.pop(KEY, None) is not None or guard.is_on(config)
    guard.take_off(config)
    if config.get("architectures"):  # of a trained checkpoint
        config["architectures"] = [name.replace("LlavaFace", "Llava") for name in config["architectures"]]
    if found:
        write_config(model_dir, config)
        if guard.transformers_family(config):
            mark_processor(model_dir, on=False)
            mark_auto_map(model_dir, on=False)
    return found


def check_names(face: FaceConfig) -> None:
    """Raises ``FaceConfigError`` for an encoder or a fusion that is not registered, naming the key."""
    facial = face.facial.encoder if face.facial is not None else None
    for key, name, known in (
        ("face.segmentation.encoder", face.segmentation.encoder, ENCODERS),
        ("face.facial.encoder", facial, READERS),
        ("face.fusion.type", face.fusion.type, FUSIONS),
    ):
        if name is not None and name not in known:
            raise FaceConfigError(f"{key}: {unknown_name(known.kind, name, known)}")


def _with_absolute_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Paths of maps, parser and facial encoder do not depend on where a training is started: they are taken from here,
    now, and ``~`` with them."""
    out = merged({}, settings)
    segmentation = out.get("segmentation")
    parser = segmentation.get("parser") if isinstance(segmentation, dict) else None
    for block, key in ((segmentation, "maps"), (parser, "path"), (parser, "detector_path")):
        if isinstance(block, dict) and isinstance(block.get(key), str):
            block[key] = str(Path(block[key]).expanduser().absolute())
    facial = out.get("facial")
    if isinstance(facial, dict) and isinstance(facial.get("path"), str):
        path = Path(facial["path"]).expanduser()
        # "transformers" may be given a hub name, which is left as it is
        if path.exists() or facial.get("encoder", "farl") == "farl":
            facial["path"] = str(path.absolute())
    return out


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """``["fusion.type=append", "fusion.pool=2"]`` -> ``{"fusion": {"type": "append", "pool": 2}}``."""
    out: dict[str, Any] = {}
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator or not path:
            raise FaceConfigError(f"--set takes key=value, not {setting!r}")
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise FaceConfigError(f"--set {setting}: the value is not valid YAML: {error}") from None
        for part in reversed(path.split(".")):
            value = {part: value}
        out = merged(out, value)
    return out


def resolve_knowledge(model_dir: Path, source: str | Path, tau: float, without: Sequence[str] = ()) -> dict[str, Any]:
    """A knowledge file as the ``knowledge`` block: vocabulary, prompt token ids, edges and rules.

    Warns of a file that was not counted from the training split alone. Raises ``FaceConfigError`` for an unknown rule
    group and a ``tau`` outside 0..1, ``FaceDataError`` for a file that is not a knowledge file, and (where python-sat
    is installed) for rules that contradict each other.
    """
    knowledge, name, digest = _open_knowledge(source)
    split = knowledge.meta.get("split", "train")
    if split != "train":
        warnings.warn(
            f"{source}: counted from split {split!r}, not 'train': scores on those images are not held out",
            stacklevel=2,
        )
    groups = {rule.group for rule in knowledge.rules if rule.group}
    for group in without:
        if group not in groups:
            raise FaceConfigError(unknown_name("rule group", group, groups))
    rules = [rule for rule in knowledge.rules if rule.group not in without]
    with contextlib.suppress(FaceHostError):  # without python-sat `knowledge build` has said that it is not checked
        if core := contradiction(rules):
            raise FaceDataError(f"{source}: its rules contradict each other: {'; '.join(texts(core))}")
    prior = knowledge.cooccurrence.prior()
    tokens = prompt_token_ids(model_dir, [knowledge.prompts[a] for a in knowledge.vocabulary])
    return {
        "file": name,
        "sha256": digest,
        "attributes": [
            {"name": a, "prompt": knowledge.prompts[a], "tokens": t, "prior": round(float(p), 4)}
            for a, t, p in zip(knowledge.vocabulary, tokens, prior, strict=True)
        ],
        "graph": edges(knowledge.cooccurrence, tau),
        "rules": [rule.to_dict() for rule in rules],
        "without": list(without),
        "tau": tau,
    }


def prompt_token_ids(model_dir: Path, prompts: Sequence[str]) -> list[list[int]]:
    """The prompts in the model's own tokenizer, without special tokens."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model_dir), use_fast=False)
    except (OSError, ValueError) as error:
        raise FaceConfigError(f"{model_dir}: its tokenizer is needed for the attribute prompts: {error}") from None
    return [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]


def _open_knowledge(source: str | Path) -> tuple[Knowledge, str, str]:
    if str(source) == MADE:
        from .data.made_knowledge import made_knowledge

        return made_knowledge(), MADE, ""
    path = Path(source)
    return Knowledge.load(path), path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def _check_settings(settings: Mapping[str, Any]) -> None:
    for key in ("enabled", "version", "preset"):
        if key in settings:
            raise FaceConfigError(f"{key} is no setting: use `llava-face enable --preset` and `disable`")
    knowledge = settings.get("knowledge", {})
    if not isinstance(knowledge, Mapping):
        raise FaceConfigError(f"knowledge is set key by key, as in knowledge.tau=0.5, not to {knowledge!r}")
    tau = knowledge.get("tau", 0)
    if isinstance(tau, bool) or not isinstance(tau, int | float):
        raise FaceConfigError(f"{KEY}.knowledge.tau: expected a number from 0 to 1, not {tau!r}")


def _check_family(face: FaceConfig, config: Mapping[str, Any], model_dir: Path, auto_map: bool) -> None:
    family = guard.transformers_family(config)
    if family is None and auto_map:
        raise FaceConfigError(f"{model_dir}: --auto-map is for transformers' own Llava classes; this is none of them")
    if family in (None, "llava"):
        return
    if FUSIONS[face.fusion.type].adds_tokens:  # type: ignore[attr-defined]
        raise FaceConfigError(
            f"{model_dir}: fusion {face.fusion.type!r} adds tokens, but {family} lays its tiles out by their number of "
            "tokens: use gated_add or channel"
        )


def _check_projector(config: Mapping[str, Any], model_dir: Path) -> None:
    if guard.transformers_family(config):
        return
    kind = guard.plain_projector(str(config.get("mm_projector_type", "mlp2x_gelu")))
    if not kind.startswith("mlp"):
        raise FaceConfigError(
            f"{model_dir}/config.json: mm_projector_type is {kind!r}; face mode needs an MLP, as LLaVA 1.5's mlp2x_gelu"
        )


def _with_vision_width(face: FaceConfig) -> FaceConfig:
    tower = face.segmentation.vision_tower
    if tower is None:
        return face
    from .encoders.backbones import vision_config

    width = {"segmentation": {"vision_width": vision_config(tower).hidden_size}}
    return FaceConfig.parse(merged(face.to_dict(), width))


def _with_facial_weights(block: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> FaceConfig:
    """The whole block, its facial encoder's shape and normalisation as its weights have them, unless set otherwise."""
    facial = merged(block, overrides).get("facial")
    if not isinstance(facial, Mapping) or not isinstance(facial.get("path"), str):
        return FaceConfig.parse(merged(block, overrides), where)
    name = facial.get("encoder", FacialConfig.model_fields["encoder"].default)
    found = checkpoint_of(str(name), facial["path"])
    shape = {"vit": found.vit.model_dump(), "size": found.size, "mean": found.mean, "std": found.std}
    face = FaceConfig.parse(merged(merged(block, {"facial": shape}), overrides), where)
    assert face.facial is not None
    fit(found, face.facial)
    return face


def _linked_copy(model_dir: Path, out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FaceConfigError(f"{out} exists and is not an empty directory")
    entries = [entry for entry in model_dir.iterdir() if entry.name != "config.json"]
    out.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        os.symlink(entry.resolve(), out / entry.name)
    return out
