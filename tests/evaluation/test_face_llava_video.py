"""``face_llava`` on clips (``--set media=video``): the answers of ``generate``, each clip read and encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import mended_torchvision  # noqa: F401 (before transformers)

pytest.importorskip("transformers", minversion="4.55", reason="these families need 4.55")
pytest.importorskip("lmms_eval", reason="the model is one of lmms-eval's")
pytest.importorskip("cv2", reason="writes the clips")
pytest.importorskip("decord", reason="reads the clips")

import cv2
from face_llava_models import GREEDY, Request, picture, simple_requests
from test_face_llava_families import VIDEO_FAMILIES, face, write  # noqa: F401

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.model.clips import read_clip
from llava_face_plugin.evaluation.model.face_llava import FaceLlava, FaceLlavaChat
from llava_face_plugin.evaluation.model.questions import from_visuals

WORDS = ("smiling", "bald", "young", "happy")


@pytest.fixture(scope="module", params=VIDEO_FAMILIES)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(request.param, tmp_path_factory.mktemp("video") / request.param)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, paths = tmp_path_factory.mktemp("clips"), []
    for seed, frames in ((0, 6), (1, 3)):
        path = folder / f"{seed}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 64))
        for number in range(frames):
            writer.write(np.asarray(picture(10 * seed + number, (64, 64)))[..., ::-1].copy())
        writer.release()
        paths.append(str(path))
    return paths


def documents(clips: list[str]) -> list[dict[str, Any]]:
    return [{"question": f"Is it {word}?", "visuals": [clip], "media": "video"} for clip in clips for word in WORDS]


def chat_requests(model: Any, docs: list[dict[str, Any]]) -> list[Request]:
    model.task_dict["talk"] = {"test": docs}

    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        content = [{"type": doc["media"], "url": visual} for visual in doc["visuals"]]
        return [{"role": "user", "content": [*content, {"type": "text", "text": doc["question"]}]}]

    return [Request(doc["question"], messages, dict(GREEDY), n, "talk", "test") for n, doc in enumerate(docs)]


@pytest.mark.parametrize("which", ["plain", "face"])
def test_answers_about_clips_are_those_of_generate(plain: Path, face: Path, which: str, clips: list[str]) -> None:  # noqa: F811
    given = {"pretrained": str({"plain": plain, "face": face}[which]), "device": "cpu", "video_frames": 4}
    answers = []
    for exact in (True, False):
        model = FaceLlava(**given, exact=exact, margin=0)
        pictures = [{"question": "Is it a hat?", "visuals": [picture(5)]}, {"question": "What is it?", "visuals": []}]
        results = model.generate_until(simple_requests(model, [*documents(clips), *pictures]))
        answers.append([(result.text, result.token_counts.input_tokens) for result in results])
        assert model.engine.encoded == (0 if exact else 3)
    assert answers[0] == answers[1] and len(set(answers[0])) > 2


def test_simple_and_chat_say_the_same_about_clips(plain: Path, clips: list[str]) -> None:
    simple, chat = (cls(pretrained=str(plain), device="cpu", video_frames=4) for cls in (FaceLlava, FaceLlavaChat))
    found = simple.generate_until(simple_requests(simple, documents(clips)))
    assert found == chat.generate_until(chat_requests(chat, documents(clips)))


def test_frames_are_spread_over_the_clip(clips: list[str]) -> None:
    whole, some = read_clip(Path(clips[0]), 6), read_clip(Path(clips[0]), 3)
    assert whole.shape == (6, 64, 64, 3) and whole.dtype == np.uint8
    assert np.array_equal(some, whole[[0, 2, 5]])
    assert len(read_clip(Path(clips[1]), 8)) == 8


def test_clips_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    with pytest.raises(FaceDataError, match=r"broken\.mp4: cannot be read"):
        read_clip(tmp_path / "broken.mp4", 4)
    with pytest.raises(FaceDataError, match=r"absent\.mp4"):
        read_clip(tmp_path / "absent.mp4", 4)


def test_images_and_videos_in_one_question_are_refused(clips: list[str]) -> None:
    visuals = [clips[0], picture(1)]
    with pytest.raises(FaceDataError, match="images and videos in one question"):
        from_visuals(visuals, "task t, document 0", lambda: visuals, 4)


def test_a_model_that_reads_no_video_says_so(tmp_path: Path, clips: list[str]) -> None:
    model = FaceLlava(pretrained=str(write("llava_next", tmp_path / "next")), device="cpu")
    with pytest.raises(FaceDataError, match="reads no video"):
        model.generate_until(simple_requests(model, documents(clips)))
