"""``face_llava`` on transformers' Llava with face mode on: answers are those of ``generate``, and use the maps."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("transformers", minversion="4.55", reason="face mode on transformers' Llava needs 4.55")
pytest.importorskip("lmms_eval", reason="the model is one of lmms-eval's")

import torch
from face_llava_models import picture, write_transformers_llava

from llava_face_plugin.evaluation.model.arguments import Arguments
from llava_face_plugin.evaluation.model.engine import Engine
from llava_face_plugin.evaluation.model.generation import Generation
from llava_face_plugin.evaluation.model.host import load_host
from llava_face_plugin.evaluation.model.questions import Question, from_visuals
from llava_face_plugin.switch import enable


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Face mode on, gates open, so that the face branch has a say."""
    out = write_transformers_llava(tmp_path_factory.mktemp("faces") / "model")
    enable(out)
    from transformers import AutoModelForImageTextToText

    from llava_face_plugin.hosts import hf  # noqa: F401

    model = AutoModelForImageTextToText.from_pretrained(out)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.face.parameters():
            parameter.normal_(0, 0.5)
    model.save_pretrained(out)
    return out


def question(engine: Engine, image: Image.Image, text: str) -> Question:
    generation = Generation.of({"max_new_tokens": 8})
    return Question(engine.host.render(text, 1), from_visuals([image], "test", lambda: [image]), generation)


def test_answers_are_those_of_generate(directory: Path) -> None:
    texts = [f"Is it {word}?" for word in ("smiling", "bald", "young", "happy", "sad", "a hat")]
    images, answers = [picture(seed) for seed in range(3)], []
    for exact in (False, True):
        arguments = Arguments(str(directory), device="cpu", exact=exact, margin=0.0)
        engine = Engine(load_host(arguments, torch.device("cpu")), arguments)
        asked = [question(engine, image, text) for image in images for text in texts]
        answers.append([answer.text for answer in engine.answer(asked)])
        assert exact or engine.encoded == 3
    assert answers[0] == answers[1] and len(set(answers[0])) > 3


def test_the_face_branch_is_in_the_visual_tokens(directory: Path) -> None:
    arguments = Arguments(str(directory), device="cpu")
    host = load_host(arguments, torch.device("cpu"))
    image = picture(0)
    (tokens,) = host.visual([image])
    projector = host.model.model.multi_modal_projector  # type: ignore[attr-defined]
    with torch.no_grad():
        for parameter in projector.face.fusion.parameters():
            parameter.zero_()
    (closed,) = host.visual([image])
    assert tokens.shape == closed.shape and not torch.allclose(tokens, closed)
