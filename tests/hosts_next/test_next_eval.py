"""lmms-eval's own wrappers of LLaVA-NeXT's package, unchanged, on a face checkpoint with a precomputed parser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.labels import NO_MAP
from tests.hosts_next import next_models
from tests.hosts_next.conftest import Assets

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed in this environment")
pytestmark = pytest.mark.contract

ANSWER = {"max_new_tokens": 4, "do_sample": False, "temperature": 0, "until": []}


@pytest.fixture(scope="module")
def checkpoint(assets: Assets) -> Path:
    """Face mode with open gates; maps of an image and of the video's first frame."""
    from decord import VideoReader

    from llava_face_plugin.maps.files import write_map
    from llava_face_plugin.parsing.precomputed import index
    from llava_face_plugin.switch import enable

    folder = assets.root / "maps-for-eval"
    folder.mkdir()
    frame = VideoReader(str(assets.data / "clip.mp4"))[0].asnumpy()
    Image.fromarray(frame).save(folder / "frame.png")
    write_map(folder / "map.png", np.full(frame.shape[:2], 13, dtype=np.uint8))
    pairs = [(folder / "frame.png", folder / "map.png"), (assets.data / "face0.png", assets.data / "maps/face0.png")]
    parser = {"type": "precomputed", "path": str(index(pairs, folder).path)}
    on, out = assets.root / "llava-qwen-eval-base", assets.root / "llava-qwen-eval"
    enable(next_models.plain(assets), knowledge="made", settings={"segmentation": {"parser": parser}}, out=on)
    tokenizer, model, _ = next_models.load(on, assets)
    next_models.open_gates(model).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@pytest.mark.parametrize("name", ["llava_onevision", "llava"])
def test_the_unchanged_wrapper_answers(
    assets: Assets, checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmms_eval.api.instance import Instance

    if name == "llava":
        from lmms_eval.models.simple.llava import Llava as Wrapper
    else:
        from lmms_eval.models.simple.llava_onevision import Llava_OneVision as Wrapper
    wrapper = Wrapper(
        pretrained=str(checkpoint), device="cpu", device_map="auto", model_name="llava_qwen",
        conv_template="qwen_1_5",
    )  # fmt: skip
    assert type(wrapper.model).__name__ == "LlavaFaceQwenForCausalLM"
    wrapper.model.float()  # the wrapper's tensors are float16: brought to the model's own below
    visuals: list[Any] = [Image.open(assets.data / f"face{i}.png").convert("RGB") for i in range(2)]
    if name == "llava_onevision":
        visuals.append(str(assets.data / "clip.mp4"))
    wrapper.task_dict["faces"] = {"test": [{"visual": visual} for visual in visuals]}
    requests = [
        Instance(
            request_type="generate_until", idx=0, metadata={"task": "faces", "doc_id": i, "repeats": 1},
            arguments=("Is the person smiling?", dict(ANSWER), lambda doc: [doc["visual"]], i, "faces", "test"),
        )
        for i in range(len(visuals))
    ]  # fmt: skip
    seen: list[tuple[torch.Tensor, Any]] = []
    plain = type(wrapper.model).generate

    def generate(self: Any, inputs: Any, images: Any = None, **kwargs: Any) -> Any:
        seen.append((images[0], kwargs.get("modalities", ["image"])))
        return plain(self, inputs, images=[image.float() for image in images], **kwargs)

    monkeypatch.setattr(type(wrapper.model), "generate", generate)
    answers = wrapper.generate_until(requests)
    assert len(answers) == len(visuals) and all(isinstance(answer, str) for answer in answers)
    kinds = {}
    for images, modalities in seen:
        known = [bool((image[3] != NO_MAP).all()) for image in images]
        kinds[modalities[0], len(images), any(known)] = known
    assert any(kind == "image" and all(known) for (kind, _, has), known in kinds.items() if has)
    assert any(kind == "image" and not has for kind, _, has in kinds)
    if name == "llava_onevision":  # of 32 frames that are asked for the map of the first is known
        assert [known[0] and not any(known[1:]) for (kind, *_), known in kinds.items() if kind == "video"] == [True]
