"""The wrapped dataset: maps in the image's geometry, labels by vocabulary, everything else upstream's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.hosts.llava.collator import FaceCollator
from llava_face_plugin.hosts.llava_v1.data import FaceDataset, attribute_matrix
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.maps.files import read_map
from llava_face_plugin.switch import enable

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def parts(base: Path) -> SimpleNamespace:
    from transformers import AutoTokenizer, CLIPImageProcessor

    tokenizer = AutoTokenizer.from_pretrained(str(base), use_fast=False, model_max_length=512)
    tokenizer.pad_token = tokenizer.unk_token
    return SimpleNamespace(tokenizer=tokenizer, processor=CLIPImageProcessor.from_pretrained(str(base / "clip")))


@pytest.fixture(scope="module")
def config(base: Path, root: Path) -> FaceConfig:
    return enable(base, knowledge="made", out=root / "base-data")


def datasets(parts: SimpleNamespace, faces: Path, config: FaceConfig, aspect: str) -> tuple[Any, FaceDataset]:
    from llava import conversation
    from llava.train.train import LazySupervisedDataset

    conversation.default_conversation = conversation.conv_templates["vicuna_v1"]
    arguments = SimpleNamespace(
        image_folder=str(faces), image_processor=parts.processor, image_aspect_ratio=aspect, is_multimodal=True,
        mm_use_im_start_end=False,
    )  # fmt: skip
    plain = LazySupervisedDataset(str(faces / "train.json"), parts.tokenizer, arguments)
    return plain, FaceDataset(plain, config)


def expected_map(labels: np.ndarray, aspect: str, side: int) -> np.ndarray:
    """Pad or crop, and resize, written out with Pillow alone."""
    image = Image.fromarray(labels)
    width, height = image.size
    if aspect == "pad":
        canvas = Image.new("L", (max(width, height),) * 2, 0)
        canvas.paste(image, ((canvas.width - width) // 2, (canvas.height - height) // 2))
        return np.asarray(canvas.resize((side, side), Image.Resampling.NEAREST))
    scale = side / min(width, height)
    size = (side, int(height * scale)) if width <= height else (int(width * scale), side)
    resized = np.asarray(image.resize(size, Image.Resampling.NEAREST))
    top, left = (resized.shape[0] - side) // 2, (resized.shape[1] - side) // 2
    return resized[top : top + side, left : left + side]


@pytest.mark.parametrize("aspect", ["pad", "square"])
def test_the_map_follows_its_image(parts: SimpleNamespace, faces: Path, config: FaceConfig, aspect: str) -> None:
    plain, face = datasets(parts, faces, config, aspect)
    assert len(face) == len(plain) and face.modality_lengths == plain.modality_lengths
    shapes = set()
    for i, sample in enumerate(plain.list_data_dict):
        item, reference = face[i], plain[i]
        assert torch.equal(item["input_ids"], reference["input_ids"])
        assert torch.equal(item["image"][:3], reference["image"])
        if "image" not in sample:
            assert bool((item["image"][3] == NO_MAP).all()) and bool((item["face_attributes"] == -1).all())
            continue
        labels = read_map(faces / sample["face_map"])
        shapes.add(labels.shape)
        assert np.array_equal(item["image"][3].numpy(), expected_map(labels, aspect, item["image"].shape[-1]))
    assert len(shapes) > 2  # images of several shapes, or padding would not be tested


def test_the_collator_adds_one_key(parts: SimpleNamespace, faces: Path, config: FaceConfig) -> None:
    from llava.train.train import DataCollatorForSupervisedDataset

    _, face = datasets(parts, faces, config, "pad")
    plain = DataCollatorForSupervisedDataset(tokenizer=parts.tokenizer)
    batch = FaceCollator(plain)([face[0], face[len(face) - 1]])
    assert set(batch) == {"input_ids", "labels", "attention_mask", "images", "face_attributes"}
    assert batch["images"].shape[1] == 4
    labels = batch["face_attributes"]
    assert labels.dtype == torch.int8 and labels.shape == (2, 20)
    given = json.loads((faces / "train.json").read_text())[0]["face_attributes"]
    assert config.knowledge is not None
    assert labels[0].tolist() == [given.get(name, -1) for name in config.knowledge.vocabulary]


def test_missing_attributes_are_unknown() -> None:
    samples = [{"face_attributes": {"B": 1}}, {}, {"face_attributes": {"A": False, "B": -1}}]
    assert attribute_matrix(samples, ("A", "B")).tolist() == [[-1, 1], [-1, -1], [0, -1]]
