"""Training data as upstream's own code reads it, with face mode around it."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.hosts import label_channel
from llava_face_plugin.hosts.llava_v1.data import FaceDataset
from llava_face_plugin.hosts.parsers import build_parser


def dataset(base: Path, faces: Path, data: Path, config: FaceConfig, aspect: str) -> tuple[Any, FaceDataset]:
    from llava import conversation
    from llava.train.train import LazySupervisedDataset
    from transformers import AutoTokenizer, CLIPImageProcessor

    conversation.default_conversation = conversation.conv_templates["vicuna_v1"]
    tokenizer = AutoTokenizer.from_pretrained(str(base), use_fast=False, model_max_length=512)
    tokenizer.pad_token = tokenizer.unk_token
    processor = CLIPImageProcessor.from_pretrained(str(base / "clip"))
    wrapped = label_channel.FaceImageProcessor(processor, functools.partial(build_parser, config))
    arguments = SimpleNamespace(
        image_folder=str(faces), image_processor=wrapped, image_aspect_ratio=aspect, is_multimodal=True,
        mm_use_im_start_end=False,
    )  # fmt: skip
    plain = LazySupervisedDataset(str(data), tokenizer, arguments)
    return plain, FaceDataset(plain, config)


def configured(**segmentation: Any) -> FaceConfig:
    return FaceConfig.parse({"preset": "light", "segmentation": segmentation})
