"""``face_llava`` on transformers' LlavaNext, LlavaOnevision and LlavaNextVideo: the answers of ``generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import mended_torchvision

pytest.importorskip("transformers", minversion="4.55", reason="these families need 4.55")
pytest.importorskip("lmms_eval", reason="the model is one of lmms-eval's")

import torch
import transformers
from face_llava_models import CHAT as IMAGE_CHAT
from face_llava_models import _tokenizer, picture, simple_requests, vary
from PIL import Image

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.evaluation.model.arguments import Arguments
from llava_face_plugin.evaluation.model.engine import Engine
from llava_face_plugin.evaluation.model.face_llava import FaceLlava
from llava_face_plugin.evaluation.model.generation import Generation
from llava_face_plugin.evaluation.model.host import load_host
from llava_face_plugin.evaluation.model.questions import Question, from_visuals
from llava_face_plugin.switch import enable

CHAT = IMAGE_CHAT.replace("== 'image' %}<image>", "!= 'text' %}<{{ c['type'] }}>")
SIDE, PATCH = 28, 14
PINPOINTS = [[28, 56], [56, 28], [56, 56]]
needs_torchvision = pytest.mark.skipif(
    not mended_torchvision.AVAILABLE, reason="this family's processor needs torchvision"
)
VIDEO_FAMILIES = [pytest.param(name, marks=needs_torchvision) for name in ("llava_onevision", "llava_next_video")]
FAMILIES = ["llava_next", *VIDEO_FAMILIES]


def write(family: str, out: Path) -> Path:
    """A random checkpoint whose answers end at varied places."""
    tokenizer = _tokenizer(CHAT)
    if family == "llava_next_video" and transformers.__version__.startswith("4."):  # takes no other class
        tokenizer = transformers.LlamaTokenizerFast(
            tokenizer_object=tokenizer._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
            add_bos_token=False, chat_template=CHAT, extra_special_tokens={"image_token": "<image>"},
        )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": ["<video>"]})
    ids = {f"{kind}_token_index": tokenizer.convert_tokens_to_ids(f"<{kind}>") for kind in ("image", "video")}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
              "image_size": SIDE, "patch_size": PATCH}  # fmt: skip
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 2048, "vocab_size": len(tokenizer), "bos_token_id": 0,
            "eos_token_id": 1, "pad_token_id": 2}  # fmt: skip
    torch.manual_seed(0)
    if family == "llava_onevision":
        config: Any = transformers.LlavaOnevisionConfig(
            vision_config=transformers.SiglipVisionConfig(**vision, vision_use_head=False),
            text_config=transformers.Qwen2Config(**text), image_grid_pinpoints=PINPOINTS, **ids,
        )  # fmt: skip
    else:
        kind = transformers.LlavaNextConfig if family == "llava_next" else transformers.LlavaNextVideoConfig
        ids = ids if family == "llava_next_video" else {"image_token_index": ids["image_token_index"]}
        config = kind(
            vision_config=transformers.CLIPVisionConfig(**vision), text_config=transformers.LlamaConfig(**text),
            image_grid_pinpoints=PINPOINTS, **ids,
        )  # fmt: skip
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    vary(model)
    model.save_pretrained(out)
    processor(family, tokenizer).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def processor(family: str, tokenizer: Any) -> Any:
    name = "LlavaOnevisionImageProcessor" if family == "llava_onevision" else "LlavaNextImageProcessor"
    square = {"height": SIDE, "width": SIDE}
    clip = {"size": {"shortest_edge": SIDE}, "crop_size": square}
    size = {"size": square} if family == "llava_onevision" else clip
    found = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)  # 5.x without torchvision
    images = found(image_grid_pinpoints=PINPOINTS, **size)
    shared = {"image_processor": images, "tokenizer": tokenizer, "chat_template": CHAT}
    if family == "llava_onevision":
        return transformers.LlavaOnevisionProcessor(
            video_processor=transformers.LlavaOnevisionVideoProcessor(**size), num_image_tokens=4,
            vision_feature_select_strategy="full", **shared,
        )  # fmt: skip
    shared |= {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    if family == "llava_next":
        return transformers.LlavaNextProcessor(**shared)
    videos = transformers.LlavaNextVideoVideoProcessor(**clip)
    return transformers.LlavaNextVideoProcessor(video_processor=videos, **shared)


@pytest.fixture(scope="module", params=FAMILIES)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(request.param, tmp_path_factory.mktemp("families") / request.param)


@pytest.fixture(scope="module")
def face(plain: Path) -> Path:
    """Face mode on, gates open, so that the face branch has a say."""
    out = plain.with_name(f"{plain.name}-face")
    enable(plain, out=out)
    from llava_face_plugin.hosts import hf  # noqa: F401

    model = transformers.AutoModelForImageTextToText.from_pretrained(out)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.face.parameters():
            parameter.normal_(0, 0.5)
    model.save_pretrained(out)
    return out


def engine(directory: Path, **arguments: Any) -> Engine:
    given = Arguments(str(directory), device="cpu", margin=0.0, **arguments)
    return Engine(load_host(given, torch.device("cpu")), given)


def ask(one: Engine, images: list[Image.Image], text: str) -> Question:
    generation = Generation.of({"max_new_tokens": 8})
    return Question(one.host.render(text, len(images)), from_visuals(images, "test", lambda: images), generation)


WORDS = ("smiling", "bald", "young", "happy", "sad", "a hat")
SIZES = ((40, 52), (90, 30), (28, 28))
"""(width, height): cut into different numbers of tiles."""


@pytest.mark.parametrize("which", ["plain", "face"])
def test_answers_are_those_of_generate(plain: Path, face: Path, which: str) -> None:
    """Of one image, of pairs, of none; one by one, and images of different tiles in a batch."""
    directory = {"plain": plain, "face": face}[which]
    images = [picture(seed, size) for seed, size in enumerate(SIZES)]
    shown = [[image] for image in images] + [images[:2], []]
    answers, tokens = [], []
    for arguments in ({"exact": True}, {"images_per_batch": 1}, {"images_per_batch": 4}):
        one = engine(directory, **arguments)
        found = one.answer([ask(one, some, f"Is it {word}?") for some in shown for word in WORDS])
        answers.append([answer.text for answer in found])
        tokens.append([answer.input_tokens for answer in found])
        assert one.encoded == (0 if "exact" in arguments else 3)
    assert answers[0] == answers[1] == answers[2] and len(set(answers[0])) > 3
    assert tokens[0] == tokens[1] == tokens[2] and len(set(tokens[0])) > 3


@pytest.mark.parametrize("which", ["plain", "face"])
def test_answers_are_those_of_llava_hf(plain: Path, face: Path, which: str) -> None:
    pytest.importorskip("decord", reason="llava_hf imports it")
    from lmms_eval.models.simple import llava_hf

    directory = {"plain": plain, "face": face}[which]
    model_type = transformers.AutoConfig.from_pretrained(directory).model_type
    heads = transformers.AutoModelForImageTextToText._model_mapping
    if model_type not in llava_hf.model_map:  # it knows no face classes, nor LlavaNextVideo
        llava_hf.model_map[model_type] = heads[type(transformers.AutoConfig.from_pretrained(directory))]
    ours = FaceLlava(pretrained=str(directory), device="cpu", images_per_batch=2)
    theirs = llava_hf.LlavaHf(
        pretrained=str(directory), device="cpu", device_map="cpu", dtype="float32", batch_size=1, use_cache=True
    )
    docs = [{"question": f"Is it {word}?", "visuals": [picture(n, SIZES[n])]} for n in range(3) for word in WORDS[:3]]
    docs.append({"question": "Same person?", "visuals": [picture(0), picture(1)]})
    answers = [result.text for result in ours.generate_until(simple_requests(ours, docs))]
    assert answers == theirs.generate_until(simple_requests(theirs, docs)) and any(answers)


def test_the_face_branch_is_in_the_visual_tokens(face: Path) -> None:
    host = engine(face).host
    images = [picture(seed, size) for seed, size in enumerate(SIZES)]
    tokens = host.visual(images)
    with torch.no_grad():
        for parameter in host.model.model.multi_modal_projector.face.fusion.parameters():  # type: ignore[attr-defined]
            parameter.zero_()
    for opened, closed in zip(tokens, host.visual(images), strict=True):
        assert opened.shape == closed.shape and not torch.allclose(opened, closed)


def test_an_older_transformers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llava_face_plugin.evaluation.model import host_transformers

    (tmp_path / "config.json").write_text('{"model_type": "llava_next", "text_config": {}}')
    monkeypatch.setattr(host_transformers, "release", lambda: (4, 52))
    with pytest.raises(FaceHostError, match=r"llava_next needs transformers 4\.55"):
        load_host(Arguments(str(tmp_path)), torch.device("cpu"))
