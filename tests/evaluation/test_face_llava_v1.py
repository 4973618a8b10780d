"""``face_llava`` on checkpoints of LLaVA's own package, with face mode and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from face_llava_models import picture, simple_requests, write_llava_v1

pytest.importorskip("lmms_eval", reason="needs the extra eval")
pytest.importorskip("llava", reason="needs the host package: llava-torch==1.2.2.post1")

from llava_face_plugin.data.made import make
from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.evaluation.model.arguments import Arguments
from llava_face_plugin.evaluation.model.face_llava import FaceLlava
from llava_face_plugin.evaluation.model.host import IMAGE, load_host
from llava_face_plugin.maps.files import open_image
from llava_face_plugin.model_files import read_config, write_config

CPU = torch.device("cpu")
WORDS = ("smiling", "old", "wearing eyeglasses", "a man or a woman", "bald", "young", "happy", "no", "yes", "tired")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("v1")


@pytest.fixture(scope="module")
def faces(root: Path) -> Path:
    """Eight drawn faces, their maps, and an index that finds a map by an image's pixels."""
    make(root / "faces", 8, 0, seed=1)
    return root / "faces"


@pytest.fixture(scope="module")
def plain(tiny_base: Path, root: Path) -> Path:
    return write_llava_v1(tiny_base, root / "plain")


@pytest.fixture(scope="module")
def face(tiny_base: Path, root: Path, faces: Path) -> Path:
    """Face mode, the maps of ``faces`` for its parser."""
    parser = {"type": "precomputed", "path": str(faces / "index.json")}
    return write_llava_v1(tiny_base, root / "face", {"segmentation": {"parser": parser}})


def documents(faces: Path) -> list[dict[str, Any]]:
    """110 questions about 8 faces with maps and 3 pictures without."""
    images = [open_image(path) for path in sorted((faces / "images").iterdir())] + [picture(n) for n in range(3)]
    assert len(images) == 11
    return [{"question": f"Is the person {word}?", "visuals": [image]} for word in WORDS for image in images]


@pytest.mark.parametrize("which", ["plain", "face"])
def test_110_answers_are_those_of_llava_s_generate(which: str, faces: Path, request: pytest.FixtureRequest) -> None:
    path = str(request.getfixturevalue(which))
    results = []
    for exact in (False, True):
        model = FaceLlava(pretrained=path, device="cpu", exact=exact, margin=0, images_per_batch=4)
        results.append(model.generate_until(simple_requests(model, documents(faces))))
        assert model.engine.encoded == (0 if exact else 11)
        notes = ["face maps so far: 8 of 11 images; 3 had none"] if which == "face" else []
        assert model.engine.host.notes() == notes  # one by one, too
    assert results[0] == results[1] and len({r.text for r in results[0]}) > 3


def test_the_map_changes_the_visual_tokens(face: Path, faces: Path) -> None:
    host = load_host(Arguments(str(face)), CPU)
    image = open_image(sorted((faces / "images").iterdir())[0])
    unknown = image.copy()
    unknown.putpixel((0, 0), (1, 2, 3))  # other pixels, so no map is found
    known_tokens, unknown_tokens = host.visual([image, unknown])
    assert known_tokens.shape == (16, 64) and (known_tokens - unknown_tokens).abs().max() > 0.01
    (alone,) = host.visual([image])
    torch.testing.assert_close(alone, known_tokens, rtol=1e-5, atol=1e-5)


def test_prompts(plain: Path) -> None:
    host = load_host(Arguments(str(plain)), CPU)
    system = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. "
    )
    assert host.render("Who?", 1) == system + "USER: <image>\nWho? ASSISTANT:"
    assert host.render("Who is <image>?", 1) == system + "USER: Who is <image>? ASSISTANT:"
    assert host.render("Same?", 2) == system + "USER: <image> <image>\nSame? ASSISTANT:"
    assert host.render("Why?", 0) == system + "USER: Why? ASSISTANT:"
    image, text = {"type": "image"}, {"type": "text", "text": "Who?"}
    chat = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": [image, image, text]},
        {"role": "assistant", "content": [{"type": "text", "text": "Ann"}]},
        {"role": "user", "content": [text, image]},
    ]
    expected = "Be kind. USER: <image> <image>\nWho? ASSISTANT: Ann</s>USER: Who?<image>\n ASSISTANT:"
    assert host.render_chat(chat) == expected
    assert host.tokenize(expected).count(IMAGE) == 3


def test_the_output_of_a_projector_training_and_its_base(plain: Path, tiny_base: Path, root: Path) -> None:
    from safetensors.torch import load_file

    out = root / "projector"
    out.mkdir()
    weights = load_file(plain / "model.safetensors")
    torch.save({k: v for k, v in weights.items() if "mm_projector" in k}, out / "mm_projector.bin")
    shutil.copy(plain / "config.json", out)
    with pytest.raises(FaceConfigError, match="model_base"):
        load_host(Arguments(str(out)), CPU)
    with pytest.raises(FaceConfigError, match="leave model_base out"):
        load_host(Arguments(str(plain), model_base=str(tiny_base)), CPU)
    parts = load_host(Arguments(str(out), model_base=str(tiny_base)), CPU)
    whole = load_host(Arguments(str(plain)), CPU)
    assert torch.equal(parts.visual([picture(1)])[0], whole.visual([picture(1)])[0])


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"mm_vision_tower": None}, FaceConfigError, "names no mm_vision_tower"),
        ({"image_aspect_ratio": "anyres"}, FaceHostError, "anyres"),
    ],
)
def test_what_cannot_be_loaded_is_told(
    plain: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], told: str
) -> None:
    write_config(tmp_path, read_config(plain) | changes)
    with pytest.raises(error, match=told):
        load_host(Arguments(str(tmp_path)), CPU)


def test_damaged_weights_are_told(plain: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plain, tmp_path / "copy"))
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(FaceHostError, match="LLaVA cannot load it"):
        load_host(Arguments(str(copy)), CPU)


def test_a_map_that_does_not_fit_is_told(face: Path, faces: Path, tmp_path: Path) -> None:
    from PIL import Image

    index = json.loads((faces / "index.json").read_text())
    shutil.copytree(faces, tmp_path / "faces")
    for path in (tmp_path / "faces" / "maps").rglob("*.png"):
        Image.new("L", (10, 90)).save(path)
    assert index
    copy = Path(shutil.copytree(face, tmp_path / "model"))
    config = read_config(copy)
    config["face"]["segmentation"]["parser"]["path"] = str(tmp_path / "faces" / "index.json")
    write_config(copy, config)
    host = load_host(Arguments(str(copy)), CPU)
    with pytest.raises(FaceDataError):
        host.visual([open_image(sorted((faces / "images").iterdir())[0])])
