"""``face_llava`` on clips (``--set media=video``): the answers of ``generate``, each clip read and encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import mended_torchvision  # noqa: F401 (before transformers)

pytest.importorskip("transformers", minversion="4.55", reason="these families need 4.55")
pytest.importorskip("lmms_eval", reason="the model is one of lmms-eval's")
from face_llava_models import GREEDY, Request, picture, simple_requests
from test_face_llava_families import VIDEO_FAMILIES, face, write  # noqa: F401

from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.evaluation.model.arguments import Arguments
from llava_face_plugin.evaluation.model.clips import Clips
from llava_face_plugin.evaluation.model.face_llava import FaceLlava, FaceLlavaChat
from llava_face_plugin.evaluation.model.questions import from_visuals
from llava_face_plugin.parsing.detectors.base import Detection
from llava_face_plugin.video import Sampling, read_frames
from llava_face_plugin.video.write import can_write_mp4, write_frames, write_mp4

if not can_write_mp4():
    pytest.skip("neither PyAV nor OpenCV is installed", allow_module_level=True)

WORDS = ("smiling", "bald", "young", "happy")


@pytest.fixture(scope="module", params=VIDEO_FAMILIES)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(request.param, tmp_path_factory.mktemp("video") / request.param)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, paths = tmp_path_factory.mktemp("clips"), []
    for seed, frames in ((0, 6), (1, 3)):
        paths.append(str(folder / f"{seed}.mp4"))
        pictures = [np.asarray(picture(10 * seed + number, (64, 64))) for number in range(frames)]
        write_mp4(Path(paths[-1]), np.stack(pictures), 5)
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


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 16, 32])
def test_uniform_takes_the_frames_of_llava_hf(clips: list[str], n: int) -> None:
    """``load_video`` of lmms-eval's llava_hf.py: ``np.linspace(0, total_frame_num - 1, max_frames_num, dtype=int)``."""
    for clip, total in zip(clips, (6, 3), strict=True):
        every = read_frames(clip, Sampling("uniform", 100)).pixels
        assert len(every) == total and len(np.unique(every.reshape(total, -1), axis=0)) == total
        shown = Clips(Sampling("uniform", n)).read(Path(clip))
        assert np.array_equal(shown, every[np.linspace(0, total - 1, n, dtype=int)])


def test_arguments_say_which_frames(clips: list[str]) -> None:
    def shown(**given: Any) -> np.ndarray:
        arguments = Arguments.of({"pretrained": "x", **given})
        return arguments.clips(torch.device("cpu")).read(Path(clips[0]))

    every = shown(video_frames=6)  # 5 a second
    assert np.array_equal(shown(video_frames=32, video_sampling="fps:2.5"), every[[0, 2, 4]])
    assert np.array_equal(shown(video_frames=2, video_sampling="fps:2.5"), every[[0, 5]])
    assert np.array_equal(shown(video_frames="3", video_sampling="face", detector="assume_cropped"), every[[0, 2, 4]])
    for wrong, message in (
        ({"video_sampling": "fast"}, "uniform:N, fps:RATE:N or face:N|unknown kind"),
        ({"video_sampling": "face"}, "belong together"), ({"detector": "yunet"}, "belong together"),
        ({"video_sampling": "face", "detector": "yunnet"}, "detector"),
        ({"video_sampling": "face", "detector": "yunet"}, "detector_path"),
    ):  # fmt: skip
        with pytest.raises(FaceConfigError, match=message):
            shown(**wrong)


class Darkest:
    """Finds a face in dark frames only, the larger the darker."""

    digest = ""

    def detect(self, images: Any) -> list[Detection]:
        sides = [max(0.0, 120 - float(np.asarray(image).mean())) for image in images]
        boxes = [np.array([[0, 0, side, side]] if side else np.zeros((0, 4)), dtype=np.float32) for side in sides]
        return [Detection(box, None, np.ones(len(box), dtype=np.float32)) for box in boxes]


def test_face_sampling_takes_what_the_detector_finds(tmp_path: Path) -> None:
    shades = np.array([200, 90, 30, 210, 60, 220, 220, 230], dtype=np.uint8)
    write_frames(tmp_path / "clip", np.broadcast_to(shades[:, None, None, None], (8, 10, 12, 3)).copy())
    clips = Clips(Sampling("face", 2), Darkest())
    assert [int(frame[0, 0, 0]) for frame in clips.read(tmp_path / "clip")] == [30, 60]
    (ref,) = from_visuals([str(tmp_path / "clip")], "task t, document 0", list, clips)
    assert ref.kind == "video" and len(ref.open()) == 2 and "face" in ref.key, "a folder of frames is a clip"


def test_clips_that_cannot_be_read_are_named(plain: Path, tmp_path: Path, clips: list[str]) -> None:
    shown = Clips(Sampling("uniform", 4))
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    with pytest.raises(FaceDataError, match=r"broken\.mp4: not a video file"):
        shown.read(tmp_path / "broken.mp4")
    with pytest.raises(FaceDataError, match=r"absent\.mp4: no such file"):
        from_visuals([str(tmp_path / "absent.mp4")], "task t, document 0", list, shown)
    (tmp_path / "cut.mp4").write_bytes(Path(clips[0]).read_bytes()[:600])
    model = FaceLlava(pretrained=str(plain), device="cpu", video_frames=4)
    with pytest.raises(FaceDataError, match=r"cut\.mp4: .*damaged"):
        model.generate_until(simple_requests(model, documents([str(tmp_path / "cut.mp4")])))


def test_images_and_videos_in_one_question_are_refused(clips: list[str]) -> None:
    visuals = [clips[0], picture(1)]
    with pytest.raises(FaceDataError, match="images and videos in one question"):
        from_visuals(visuals, "task t, document 0", lambda: visuals, Clips(Sampling("uniform", 4)))


def test_a_model_that_reads_no_video_says_so(tmp_path: Path, clips: list[str]) -> None:
    model = FaceLlava(pretrained=str(write("llava_next", tmp_path / "next")), device="cpu")
    with pytest.raises(FaceDataError, match="reads no video"):
        model.generate_until(simple_requests(model, documents(clips)))
