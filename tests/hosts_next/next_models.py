"""Checkpoints, models and batches of LLaVA-NeXT that the contract is tried on; each checkpoint is made once."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from llava_face_plugin.model_files import read_config
from llava_face_plugin.switch import enable
from tests.core.standin import FUSION_BLOCKS, encoder_blocks
from tests.hosts_next import next_assets, next_run
from tests.hosts_next.conftest import Assets

FACE = "mm_projector.face."
VOCABULARY = 20
"""Attributes of the drawn faces."""


@contextlib.contextmanager
def hub(assets: Assets) -> Iterator[None]:
    """Names on the hub (SigLIP's tower) are found in ``assets.hub``, as with HF_HOME in a process of its own."""
    import transformers.utils.hub

    cache = str(assets.hub / "hub")
    with contextlib.ExitStack() as stack:
        for name in ("TRANSFORMERS_CACHE", "HF_HUB_CACHE", "constants.HF_HUB_CACHE"):
            with contextlib.suppress(AttributeError):
                stack.enter_context(mock.patch(f"transformers.utils.hub.{name}", cache))
        stack.enter_context(mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True))
        if hasattr(transformers.utils.hub, "_is_offline_mode"):
            stack.enter_context(mock.patch("transformers.utils.hub._is_offline_mode", True))
        yield


def run(arguments: list[str], seed: int = 0) -> Any:
    """``next_run.train_here`` with accelerate's state as at a process' start: it keeps the first run's precision."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    with mock.patch.dict(os.environ):  # Trainer's arguments leave --bf16 in ACCELERATE_MIXED_PRECISION
        return next_run.train_here(arguments, seed)


def tower(assets: Assets, kind: str) -> Path | str:
    return assets.clip if kind == "clip" else assets.siglip


def plain(assets: Assets, lm: str = "qwen", vision: str = "clip") -> Path:
    """A LLaVA-NeXT checkpoint of upstream's own training without face mode, one step on the mixed data."""
    out = assets.root / f"llava-plain-{lm}-{vision}"
    if not (out / "config.json").exists():
        small = {} if vision == "clip" else {"per_device_train_batch_size": 1}
        with hub(assets):
            source = tower(assets, vision)
            run(next_run.flags(getattr(assets, lm), source, assets.data / "mixed.json", out, max_steps=1, **small))
    return out


def switched_on(source: Path, out: Path, **settings: Any) -> Path:
    """A linked copy with face mode and the drawn faces' knowledge; made once. ``encoder``, ``fusion``, ``own_vit``.

    Names as in ``tests.core.standin``. ``out``: LLaVA-NeXT takes a path with "moe" in it for that of another LLM.
    """
    block = encoder_blocks(settings.get("encoder", "part-embedding"), width=16)
    block["fusion"] = FUSION_BLOCKS[settings.get("fusion", "gated_add")]
    if "own_vit" in settings:
        block["segmentation"]["vision_tower"] = str(settings["own_vit"])
    if not out.exists():
        enable(source, knowledge="made", settings=block, out=out)
    return out


def named(*parts: str) -> str:
    """A folder's name of an encoder, a fusion and so on."""
    return re.sub(r"[^\w-]+", "-", "-".join(parts)).replace("moe", "experts")


def load(path: Path, assets: Assets) -> Any:
    """(tokenizer, model, image processor) by upstream's own loader, as a user on a CPU calls it; float32, eval."""
    from llava.model.builder import load_pretrained_model

    with hub(assets):
        tokenizer, model, processor, _ = load_pretrained_model(
            str(path), None, path.name, device_map="auto", attn_implementation="sdpa"
        )
    return tokenizer, model.float().eval(), processor


def load_model(path: Path, assets: Assets) -> Any:
    return load(path, assets)[1]


def dataset(data: Path, tokenizer: Any, processor: Any, **arguments: Any) -> Any:
    """Upstream's dataset over one of the JSON files, as train.py sets it up for Qwen or Vicuna."""
    from llava import conversation
    from llava.train.train import LazySupervisedDataset

    version = "qwen_1_5" if tokenizer.bos_token_id is None else "v1"
    conversation.default_conversation = conversation.conv_templates[version]
    tokenizer.model_max_length = 4096
    if tokenizer.unk_token is not None:
        tokenizer.pad_token = tokenizer.unk_token
    values = {
        "image_folder": str(data.parent), "video_folder": str(data.parent), "image_processor": processor,
        "image_aspect_ratio": "anyres_max_9", "image_grid_pinpoints": next_assets.PINPOINTS, "is_multimodal": True,
        "mm_use_im_start_end": False, "early_mix_text": False, "video_fps": 1, "frames_upbound": 4,
        "add_time_instruction": True, "force_sample": True, **arguments,
    }  # fmt: skip
    return LazySupervisedDataset(str(data), tokenizer, SimpleNamespace(**values))


def collator(tokenizer: Any) -> Any:
    from llava.train.train import DataCollatorForSupervisedDataset

    return DataCollatorForSupervisedDataset(tokenizer=tokenizer)


def face_batches(model: Any, tokenizer: Any, processor: Any, data: Path, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Batches of two from the face dataset around upstream's."""
    from llava_face_plugin.hosts.llava.collator import FaceCollator
    from llava_face_plugin.hosts.llava_next.data import FaceNextDataset

    samples = FaceNextDataset(dataset(data, tokenizer, processor, **arguments), model.face_config)
    collate = FaceCollator(collator(tokenizer))
    for start in range(0, len(samples), 2):
        yield collate([samples[i] for i in range(start, min(start + 2, len(samples)))])


def batch(model: Any, tokenizer: Any, processor: Any, data: Path, **arguments: Any) -> dict[str, Any]:
    """The first batch of a JSON file."""
    return next(face_batches(model, tokenizer, processor, data, **arguments))


def plain_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The same batch as upstream's own dataset makes it: no map channel, no attributes."""
    kept = {name: value for name, value in inputs.items() if name != "face_attributes"}
    return {**kept, "images": [image[..., :3, :, :] for image in inputs["images"]]}


def as_loaded(model: Any, tokenizer: Any) -> Any:
    """As upstream's loader leaves it: weights rounded to float16, the vocabulary cut to the tokenizer's."""
    tables = [b for name, b in model.named_buffers() if name.endswith(("cos_cached", "sin_cached"))]  # Qwen2's on 4.40
    for tensor in (*model.parameters(), *tables):  # the rotary frequencies are neither, and are not rounded
        tensor.data = tensor.data.half().float()
    model.resize_token_embeddings(len(tokenizer))
    return model.eval()


def config(path: Path) -> dict[str, Any]:
    return read_config(path)


def open_gates(model: Any) -> Any:
    """The branch as a training would leave it: weights that are not those of step 0, drawn from one seed."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.get_model().mm_projector.face.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter) * 0.1
    return model
