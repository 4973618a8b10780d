"""Tiny random directories of transformers' Llava families, and batches for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
    set_seed,
)

from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.switch import enable
from tests.core.standin import FUSION_BLOCKS, encoder_blocks, watch_experts

VIDEO_FAMILIES = ("llava_onevision", "llava_next_video")
FAMILIES = ("llava", "llava_next", *VIDEO_FAMILIES)
FACE = "multi_modal_projector.face."
SIDE, PATCH = 56, 14
PINPOINTS = [[56, 112], [112, 56], [112, 112]]
IMAGE_TOKEN, VIDEO_TOKEN = 3, 4
FRAMES = 3
SIZES = ((60, 70), (80, 40), (56, 56))
"""(height, width) of the images of ``batch``."""


def build(family: str, out: Path) -> Path:
    """A plain model directory, as llava-hf's are."""
    if out.exists():
        return out
    set_seed(0)
    _build_model(family).eval().save_pretrained(out)
    tokenizer = _tokenizer()
    if family == "llava":
        images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
        LlavaProcessor(images, tokenizer, PATCH, "default", num_additional_image_tokens=1).save_pretrained(out)
    elif family == "llava_next":
        LlavaNextProcessor(next_images(), tokenizer, PATCH, "default", num_additional_image_tokens=1).save_pretrained(
            out
        )
    else:
        tokenizer.save_pretrained(out)  # their processors need a video processor, and that torchvision
    return out


def next_images() -> Any:
    """A LLaVA-NeXT image processor for the tiny tower; without torchvision it goes by another name on 5.x."""
    import transformers

    name = "LlavaNextImageProcessorPil"
    found = getattr(transformers, name, None) or transformers.LlavaNextImageProcessor
    return found(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=PINPOINTS
    )


def _build_model(family: str) -> Any:
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "image_size": SIDE, "patch_size": PATCH,
    }  # fmt: skip
    text = {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    if family == "llava":
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(**vision), text_config=LlamaConfig(**text), image_token_index=IMAGE_TOKEN,
            image_seq_length=16,
        )  # fmt: skip
        return LlavaForConditionalGeneration(config)
    if family == "llava_next":
        config = LlavaNextConfig(
            vision_config=CLIPVisionConfig(**vision), text_config=LlamaConfig(**text), image_token_index=IMAGE_TOKEN,
            image_grid_pinpoints=PINPOINTS,
        )  # fmt: skip
        return LlavaNextForConditionalGeneration(config)
    if family == "llava_next_video":
        config = LlavaNextVideoConfig(
            vision_config=CLIPVisionConfig(**vision), text_config=LlamaConfig(**text), image_token_index=IMAGE_TOKEN,
            video_token_index=VIDEO_TOKEN, image_grid_pinpoints=PINPOINTS,
        )  # fmt: skip
        return LlavaNextVideoForConditionalGeneration(config)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**vision, vision_use_head=False),
        text_config=Qwen2Config(**text, tie_word_embeddings=True), image_token_index=IMAGE_TOKEN,
        video_token_index=VIDEO_TOKEN, image_grid_pinpoints=PINPOINTS, tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaOnevisionForConditionalGeneration(config)


def _tokenizer(cls: Any = PreTrainedTokenizerFast) -> Any:
    words = ["<pad>", "<s>", "</s>", "<image>", "<video>", "<unk>"] + [chr(c) for c in range(33, 127)]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return cls(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        additional_special_tokens=["<image>", "<video>"], model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def switched_on(
    family: str, root: Path, encoder: str = "part-embedding", fusion: str = "gated_add", knowledge: str | None = "made"
) -> Path:
    """A linked copy with face mode and the drawn faces' knowledge; made once. Names as in ``tests.core.standin``."""
    out = root / re.sub(r"[^\w-]+", "-", f"{family}-{encoder}-{fusion}-{knowledge}")
    if not out.exists():
        settings = {**encoder_blocks(encoder, width=16), "fusion": FUSION_BLOCKS[fusion]}
        if knowledge:
            settings["knowledge"] = {"hidden": 16}
        enable(build(family, root / family), knowledge=knowledge, settings=settings, out=out)
    return out


def load(path: Path, **kwargs: Any) -> Any:
    return AutoModelForImageTextToText.from_pretrained(path, **kwargs).eval()


def batch(family: str, extra: int = 0, seed: int = 0) -> dict[str, torch.Tensor]:
    """Three random images of different sizes, each in a text behind a question of three words; the last has no map.

    ``extra``: tokens that a fusion adds to each image.
    """
    random = torch.Generator().manual_seed(seed)
    counts = [16 + extra] * 3 if family == "llava" else [_anyres_tokens(family, *size) for size in SIZES]
    length = max(counts) + 8
    ids = torch.zeros(3, length, dtype=torch.long)
    for row, count in zip(ids, counts, strict=True):  # padded on the left, as for generate()
        text = torch.randint(5, 90, (8,), generator=random)
        row[length - count - 8 :] = torch.cat([text[:3], torch.full((count,), IMAGE_TOKEN), text[3:]])
    mask = (ids != 0).long()
    labels = torch.where((ids == IMAGE_TOKEN) | ((ids == IMAGE_TOKEN).cumsum(dim=1) == 0), -100, ids)
    tiles = () if family == "llava" else (5,)
    pixels = torch.randn(3, *tiles, 3, SIDE, SIDE, generator=random)
    maps = torch.randint(0, 19, (3, *tiles, 1, SIDE, SIDE), generator=random).float()
    maps[-1] = NO_MAP
    out = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if family != "llava":
        out["image_sizes"] = torch.tensor(SIZES)
    return {**out, "pixel_values": torch.cat([pixels, maps], dim=-3)}


def video_batch(family: str, kinds: tuple[str, ...] = ("video", "video"), seed: int = 0) -> dict[str, torch.Tensor]:
    """A text for each of ``kinds``, with a place for each "video" or "image" in it.

    The last frame or tile of each has no map, nor has the last of several.
    """
    random = torch.Generator().manual_seed(seed)
    sizes, rows, videos = [], [], 0
    for kind in kinds:
        ids = [torch.randint(5, 90, (3,), generator=random)]
        for word in kind.split():
            if word == "video":
                videos += 1
                count = FRAMES * 4 + (family == "llava_onevision")  # 4: the 4 x 4 patches pooled; its newline
                ids.append(torch.full((count,), VIDEO_TOKEN))
            elif word == "image":
                sizes.append(SIZES[len(sizes)])
                ids.append(torch.full((_anyres_tokens(family, *sizes[-1]),), IMAGE_TOKEN))
        rows.append(torch.cat([*ids, torch.randint(5, 90, (5,), generator=random)]))
    length = max(map(len, rows))
    ids = torch.stack([torch.nn.functional.pad(row, (length - len(row), 0)) for row in rows])
    labels = torch.where((ids == IMAGE_TOKEN) | (ids == VIDEO_TOKEN) | (ids == 0), -100, ids)
    out = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}
    if sizes:
        out |= {"pixel_values": _pixels((len(sizes), 5), random), "image_sizes": torch.tensor(sizes)}
    if videos:
        out["pixel_values_videos"] = _pixels((videos, FRAMES), random)
    return out


def _pixels(leading: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    pixels = torch.randn(*leading, 3, SIDE, SIDE, generator=random)
    maps = torch.randint(0, 19, (*leading, 1, SIDE, SIDE), generator=random).float()
    maps[1:][-1:] = maps[:, -1] = NO_MAP
    return torch.cat([pixels, maps], dim=-3)


def _anyres_tokens(family: str, height: int, width: int) -> int:
    """How many tokens an image becomes: the base tile, its best grid without padding, and a newline a row."""
    from transformers.image_processing_utils import select_best_resolution

    best_height, best_width = select_best_resolution([height, width], PINPOINTS)
    rows, columns = best_height // PATCH, best_width // PATCH
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    return 16 + rows * (columns + 1)


def without_maps(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v[..., :3, :, :] if k.startswith("pixel_values") else v for k, v in inputs.items()}


def some_attributes(rows: int = 3, columns: int = 20, seed: int = 1) -> torch.Tensor:
    """(rows, columns) int8 labels; the last row is unknown."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 2, (rows, columns), generator=random, dtype=torch.int8)
    labels[-1] = -1
    return labels


def open_gates(model: Any, seed: int = 5) -> None:
    """Random values in every face parameter: as after some training."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if FACE in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))


def silent_at_step_2(model: Any, inputs: dict[str, torch.Tensor]) -> list[str]:
    """Two steps; the face parameters without a gradient in the second, but for experts that few patches had chosen."""
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        few = watch_experts(model)
        model(**inputs).loss.backward()
        optimizer.step()
    found = {name: p.grad for name, p in model.named_parameters() if FACE in name}
    assert found and all(grad is not None for grad in found.values())
    silent = [name for name, grad in found.items() if not bool(grad.abs().sum() > 0)]
    return [name for name in silent if not any(expert in name for expert in few)]


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
