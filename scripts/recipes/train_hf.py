"""Trains one of transformers' own Llavas in face mode: Trainer, ``FaceLossMixin`` and LLaVA's JSON. Copy it, change it.

torchrun --nproc_per_node 8 train_hf.py --model_name_or_path DIR --data_path train.json --image_folder DIR \
    --output_dir OUT --bf16 True --deepspeed scripts/recipes/deepspeed/zero3.json [flags of TrainingArguments]

``DIR`` is what `llava-face enable` has switched on. The prompt is LLaVA 1.5's; another model has another ``pieces``.
Samples with ``video`` (a file, or a folder of frames, below ``--image_folder``) go to LlavaOnevision and LlavaNextVideo
by ``--video_frames`` frames each. ``--stage favchat:qa`` trains what that stage of a stage file names.
Started again with the same ``--output_dir`` it goes on from the last ``checkpoint-*`` there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

from llava_face_plugin.hosts.hf import FaceLossMixin
from llava_face_plugin.stages.hosts import apply
from llava_face_plugin.stages.plan import stage_of
from llava_face_plugin.video import read_uniform

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IGNORED = -100
PIXELS = ("pixel_values", "pixel_values_videos", "image_sizes")
"""What processors make of images and videos: which of these depends on the family."""


@dataclass
class Data:
    model_name_or_path: str
    data_path: str
    image_folder: str = "."
    video_frames: int = 16
    stage: str | None = None


def pieces(conversations: list[dict[str, str]], end: str) -> Iterator[tuple[str, bool]]:
    """The prompt in parts, and whether a part is an answer, which is what the language model learns."""
    yield SYSTEM, False
    for turn in conversations:
        if turn["from"] == "human":
            yield f" USER: {turn['value']} ASSISTANT:", False
        else:
            yield f" {turn['value']}{end}", True


class Faces(Dataset):
    """LLaVA's JSON: samples with or without ``image`` or ``video``, ``face_map`` and ``face_attributes``."""

    def __init__(self, path: str, folder: str, processor: Any, video_frames: int = 16) -> None:
        self.samples = json.loads(Path(path).read_text(encoding="utf-8"))
        self.folder, self.processor, self.video_frames = Path(folder), processor, video_frames
        knowledge = processor.face_config.knowledge
        self.vocabulary = knowledge.vocabulary if knowledge else ()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        parts = list(pieces(sample["conversations"], self.processor.tokenizer.eos_token))
        if "video" in sample:  # LLaVA's JSON says <image> for it
            parts = [(text.replace("<image>", "<video>"), is_answer) for text, is_answer in parts]
        given = {"text": ["".join(text for text, _ in parts)], **self.seen(sample)}
        made = self.processor(**given, return_offsets_mapping=True, return_tensors="pt")
        item = {name: made[name] for name in PIXELS if name in made}
        if item and self.vocabulary:
            known = sample.get("face_attributes", {})
            item["face_attributes"] = [known.get(name, -1) for name in self.vocabulary]
        return {"input_ids": made["input_ids"][0], "labels": answers_only(made, parts), **item}

    def seen(self, sample: dict[str, Any]) -> dict[str, Any]:
        """What the processor is shown. Without a map of its own it asks face.segmentation.maps and .parser."""
        if "video" in sample:
            return {"videos": [read_uniform(self.folder / sample["video"], self.video_frames)]}
        if "image" not in sample:
            return {}
        face_map = sample.get("face_map")
        return {
            "images": [Image.open(self.folder / sample["image"]).convert("RGB")],
            "segmentation_maps": [self.folder / face_map if face_map else None],
        }


def answers_only(made: Any, parts: list[tuple[str, bool]]) -> torch.Tensor:
    """The token ids of one text, with ``IGNORED`` in place of what is no answer."""
    offsets, labels = made["offset_mapping"][0], torch.full_like(made["input_ids"][0], IGNORED)
    # Counted from the end: an <image> in front was written out as many before the text was split into tokens.
    stop = int(offsets.max())
    for text, is_answer in reversed(parts):
        start = stop - len(text)
        if is_answer:
            inside = (offsets[:, 1] > start) & (offsets[:, 1] <= stop)
            labels[inside] = made["input_ids"][0][inside]
        stop = start
    return labels


class Collator:
    """Pads a batch. One without any image or video gets a blank image that counts nowhere."""

    def __init__(self, processor: Any, attributes: int) -> None:
        self.processor, self.attributes = processor, attributes

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if not any(name in item for item in items for name in PIXELS):
            items = [*items, self.blank()]
        ids = [item["input_ids"] for item in items]
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.processor.tokenizer.pad_token_id),
            "labels": pad_sequence([item["labels"] for item in items], batch_first=True, padding_value=IGNORED),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        }
        for name in PIXELS:
            if values := [item[name] for item in items if name in item]:
                batch[name] = joined(values) if name.startswith("pixel") else torch.cat(values)
        if self.attributes:
            # Rows as the model has them: first of images, then of videos.
            seen = [item for name in PIXELS[:2] for item in items if name in item]
            batch["face_attributes"] = torch.tensor([item["face_attributes"] for item in seen], dtype=torch.int8)
        return batch

    def blank(self) -> dict[str, Any]:
        """What LLaVA's own collator does, too: otherwise this rank would run no tower and no projector, and the
        others would wait for its part of their gradients."""
        made = self.processor(images=[Image.new("RGB", (64, 64))], text=["<image>"], return_tensors="pt")
        ids = made["input_ids"][0]
        return {
            "input_ids": ids,
            "labels": torch.full_like(ids, IGNORED),
            **{name: made[name] for name in PIXELS if name in made},
            "face_attributes": [-1] * self.attributes,
        }


def joined(pixels: list[torch.Tensor]) -> torch.Tensor:
    """(1, [tiles,] 3 or 4, H, W) each as one batch: with as many channels as the one that has most, for 255 is "no
    map"; and with as many tiles, for those behind an image's own are not looked at."""
    channels, tiles = (max(one.shape[at] for one in pixels) for at in (-3, 1))
    out = []
    for one in pixels:
        missing = channels - one.shape[-3]
        if missing:
            one = torch.cat([one, one.new_full((*one.shape[:-3], missing, *one.shape[-2:]), 255)], dim=-3)
        if one.ndim == 5 and one.shape[1] < tiles:
            one = torch.cat([one, one.new_zeros(1, tiles - one.shape[1], *one.shape[2:])], dim=1)
        out.append(one)
    return torch.cat(out)


class FaceTrainer(FaceLossMixin, Trainer):
    """Logs loss_bce and loss_logic, and resumes with the checkpoint's weights."""


def main() -> None:
    # The arguments come first: under ZeRO-3 a model that is built after them is built in parts.
    data, arguments = HfArgumentParser((Data, TrainingArguments)).parse_args_into_dataclasses()
    arguments.remove_unused_columns = False
    stage = stage_of(data.stage) if data.stage else None
    set_seed(arguments.seed)  # a fresh branch is drawn on every rank
    model = AutoModelForImageTextToText.from_pretrained(data.model_name_or_path, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(data.model_name_or_path)
    if stage is not None:
        apply(stage, model)
    else:
        model.model.vision_tower.requires_grad_(False)
    model.config.use_cache = False
    faces = Faces(data.data_path, data.image_folder, processor, data.video_frames)
    collator = Collator(processor, len(faces.vocabulary))
    trainer = FaceTrainer(model=model, args=arguments, train_dataset=faces, data_collator=collator)
    trainer.train(resume_from_checkpoint=any(Path(arguments.output_dir).glob("checkpoint-*")) or None)
    trainer.save_state()
    trainer.save_model()
    if trainer.is_world_process_zero():
        processor.save_pretrained(arguments.output_dir)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
