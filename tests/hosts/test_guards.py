"""Never silently absent, and bad input named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from llava_face_plugin import guard
from llava_face_plugin.errors import FaceDataError, FaceHostError
from llava_face_plugin.model_files import read_config, write_config
from llava_face_plugin.switch import enable

from . import upstream
from .models import load, switched_on

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("kind", ["base", "checkpoint"])
def test_upstream_alone_refuses_a_face_directory(base: Path, checkpoint: Path, root: Path, kind: str) -> None:
    source = base if kind == "base" else checkpoint
    out = switched_on(source, root / f"guarded-{kind}")
    code = (
        "from llava.model import LlavaLlamaForCausalLM as M\n"
        f"M.from_pretrained({str(out)!r})\n"
    )  # fmt: skip
    result = upstream.run([upstream.python(), "-c", code], root, LLAVA_FACE="0", LLAVA_FACE_CPU_DRY_RUN=None)
    assert result.returncode != 0
    assert ("llava_face_plugin is not active" if kind == "base" else "face+mlp2x_gelu") in result.stderr


def test_another_language_model_is_refused(checkpoint: Path, root: Path) -> None:
    import llava.model as models

    if not hasattr(models, "LlavaMistralForCausalLM"):
        pytest.skip("upstream could not import its Mistral model on this transformers version")
    out = switched_on(checkpoint, root / "llava-part-embedding-gated_add")
    with pytest.raises(FaceHostError, match="LlavaLlamaForCausalLM"):
        models.LlavaMistralForCausalLM.from_pretrained(str(out))


def test_half_a_branch_in_a_checkpoint_is_refused(base: Path, faces: Path, root: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = switched_on(base, root / "base-part-embedding-gated_add")
    whole = root / "llava-whole"
    upstream.train(upstream.flags(source, base / "clip", faces, whole, max_steps=1))
    half = shutil.copytree(whole, root / "llava-half")
    tensors = load_file(half / "model.safetensors")
    tensors.pop("model.mm_projector.face.fusion.gate")
    save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FaceHostError, match=r"fusion\.gate"):
        load(half)


def spoiled(faces: Path, root: Path, name: str, **changes: Any) -> Path:
    samples = json.loads((faces / "train.json").read_text())
    row = next(i for i, sample in enumerate(samples) if "image" in sample)
    samples[row].update(changes)
    if changes.get("conversations", 0) is None:
        del samples[row]["conversations"]
    path = root / f"{name}.json"
    path.write_text(json.dumps(samples))
    return path


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("image", {"image": "broken.jpg", "face_map": None}, "broken.jpg"),
        ("attribute", {"face_attributes": {"Smilling": 1}}, "did you mean 'Smiling'"),
        ("value", {"face_attributes": {"Smiling": 2}}, "'Smiling' is 2"),
        ("turns", {"conversations": None}, "no conversations"),
        ("missing", {"face_map": "maps/none.png"}, "no such file"),
    ],
)  # fmt: skip
def test_bad_samples_are_named(
    base: Path, faces: Path, root: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    whole = next(iter(sorted((faces / "images").iterdir()))).read_bytes()
    (faces / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    source = switched_on(base, root / "base-light")
    data = spoiled(faces, root, name, **changes)
    arguments = upstream.flags(
        source, base / "clip", faces, root / f"llava-bad-{name}", data_path=data, max_steps=8,
        group_by_modality_length=False,
    )  # fmt: skip
    with pytest.raises(FaceDataError, match=message) as error:
        upstream.train(arguments)
    assert "row " in str(error.value)


def test_bad_maps_can_be_counted_instead(base: Path, faces: Path, root: Path) -> None:
    data = spoiled(faces, root, "lenient", face_map="maps/none.png")
    source = root / "base-lenient"
    enable(base, settings={"segmentation": {"bad_map": "no-map"}}, out=source)
    arguments = upstream.flags(
        source, base / "clip", faces, root / "llava-lenient", data_path=data, max_steps=7,
        group_by_modality_length=False,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"trained without a map \(1 so far"):
        upstream.train(arguments)


def test_a_wrong_block_is_refused_at_load(checkpoint: Path, root: Path) -> None:
    from llava_face_plugin.errors import FaceConfigError

    out = shutil.copytree(checkpoint, root / "llava-wrong")
    config = read_config(out)
    config["face"] = {"enabled": True, "fusion": {"kind": "append"}}
    guard.put_on(config)
    write_config(out, config)
    with pytest.raises(FaceConfigError, match=r"face\.fusion\.kind"):
        load(out)
