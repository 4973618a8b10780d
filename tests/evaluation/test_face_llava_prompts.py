"""``face_llava`` with a fusion that reads the question: no two questions may share an image's tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from face_llava_models import picture, write_llava_v1, write_transformers_llava

pytest.importorskip("transformers", minversion="4.55", reason="face mode on transformers' Llava needs 4.55")
pytest.importorskip("lmms_eval", reason="the model is one of lmms-eval's")

from llava_face_plugin.evaluation.model.arguments import Arguments
from llava_face_plugin.evaluation.model.engine import Engine
from llava_face_plugin.evaluation.model.generation import Generation
from llava_face_plugin.evaluation.model.host import PROMPT_NOTE, load_host
from llava_face_plugin.evaluation.model.questions import Question, from_visuals
from llava_face_plugin.switch import enable
from tests.core.standin import FUSION_BLOCKS, encoder_blocks

CPU = torch.device("cpu")
WORDS = ("smiling", "bald", "young", "happy", "sad", "a hat")
SETTINGS: dict[str, Any] = {**encoder_blocks("facial"), "fusion": FUSION_BLOCKS["soft-gate"]}


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Face mode on, gates open."""
    out = write_transformers_llava(tmp_path_factory.mktemp("prompts") / "model")
    enable(out, settings=SETTINGS)
    from transformers import AutoModelForImageTextToText

    from llava_face_plugin.hosts import hf  # noqa: F401

    model = AutoModelForImageTextToText.from_pretrained(out)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.face.parameters():
            parameter.normal_(0, 0.5)
        model.model.multi_modal_projector.face.fusion.gate.fill_(20.0)  # the question is to be seen in the answer
    model.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def v1(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llava_v1(tiny_base, tmp_path_factory.mktemp("prompts-v1") / "model", SETTINGS)


def engine_of(directory: Path, **given: Any) -> Engine:
    arguments = Arguments(str(directory), device="cpu", **given)
    return Engine(load_host(arguments, CPU), arguments)


def questions(engine: Engine) -> list[Question]:
    """Six about each of two images, and three about none."""
    generation = Generation.of({"max_new_tokens": 6})
    images = [from_visuals([image], "test", lambda image=image: [image]) for image in (picture(0), picture(1))]
    texts = [f"Is it {word}?" for word in WORDS]
    about = [Question(engine.host.render(text, 1), image, generation) for image in images for text in texts]
    return about + [Question(engine.host.render(text, 0), (), generation) for text in texts[:3]]


@pytest.mark.parametrize("which", ["transformers", "v1"])
def test_answers_are_those_of_generate_in_any_batch(which: str, request: pytest.FixtureRequest) -> None:
    directory = request.getfixturevalue(which)
    exact = engine_of(directory, exact=True)
    expected = [answer.text for answer in exact.answer(questions(exact))]
    assert len(set(expected)) > 2
    for given in ({"batch_size": 2}, {"batch_size": 64, "images_per_batch": 4}):
        engine = engine_of(directory, margin=0.0, **given)
        assert [answer.text for answer in engine.answer(questions(engine))] == expected
        assert (engine.encoded, engine.one_by_one) == (0, 12)  # what is about no image is batched
        assert engine.host.notes()[0] == PROMPT_NOTE


def test_shared_images_would_give_other_answers(transformers: Path) -> None:
    """What the rule is for."""
    engine = engine_of(transformers, margin=0.0)
    expected = [answer.text for answer in engine.answer(questions(engine))]
    engine.host.reads_prompt = False
    assert [answer.text for answer in engine.answer(questions(engine))] != expected
    assert engine.encoded == 2
