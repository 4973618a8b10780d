"""Tiny random models and made faces for LLaVA-NeXT, and its unchanged train_mem.py run on them.

Everything is made offline, in whichever environment runs: both transformers generations read the same files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from llava_face_plugin.data.made import MADE_ATTRIBUTES, render, sample_attributes
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.tiny import build_tiny

SIDE, PATCH = 56, 14
"""CLIP's input and patch side in pixels: 4 x 4 patches a tile."""

PINPOINTS = "[[56,112],[112,56],[112,112],[168,56],[56,168]]"
IMAGES = ((160, 120), (90, 180), (100, 100), (240, 80))
"""(width, height) of the images: landscape, portrait, square, wide."""

VIDEO = (128, 96)
"""(width, height) of the videos."""

SIGLIP = "tiny/siglip-so400m-patch14-384"
"""The SigLIP tower's name. LLaVA-NeXT takes every path that exists for CLIP, so it has to be a name on the hub."""

SIGLIP_PINPOINTS = "[[384,768],[768,384]]"
_REVISION = "0" * 40
_CHAT_ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
    " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# What LLaVA-NeXT looks for, in the whole path, before "qwen" or "llama" (train.py, get_model).
_CONFUSING = ("mistral", "mixtral", "zephyr", "wizardlm-2", "yi", "mpt", "moe")


def checkout() -> Path:
    """The checkout under test. Raises ``KeyError`` where LLAVA_NEXT_ROOT is not set."""
    return Path(os.environ["LLAVA_NEXT_ROOT"])


def build_qwen(out: Path) -> Path:
    """A Qwen2 directory (0.15 M parameters) with a byte-level BPE tokenizer; call it something with "qwen"."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    _check_name(out, "qwen")
    if (out / "config.json").exists():
        return out
    _write_byte_tokenizer(out)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=256, eos_token_id=258,
        rope_theta=1e6, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(out)
    return out


def build_llama(out: Path) -> Path:
    """A Llama directory with a sentencepiece tokenizer; call it something with "vicuna"."""
    _check_name(out, "vicuna")
    return out if (out / "config.json").exists() else build_tiny(out)


def build_clip(out: Path) -> Path:
    """A CLIP tower of 56 pixels: 16 patches a tile."""
    build_llama(out.parent / "vicuna-for-clip")
    if not out.exists():
        out.symlink_to(out.parent / "vicuna-for-clip" / "clip")
    return out


def build_siglip(hub: Path) -> str:
    """A SigLIP tower in a hub cache below ``hub``, found by ``environment(hub=hub)``; returns its name.

    LLaVA-NeXT ignores the tower's own config: 384 pixels, 729 patches and width 1152 are its constants
    (siglip_encoder.py:544). Two layers, of which it drops one.
    """
    from transformers import SiglipVisionConfig, SiglipVisionModel

    repository = hub / "hub" / f"models--{SIGLIP.replace('/', '--')}"
    if not repository.exists():
        torch.manual_seed(0)
        config = SiglipVisionConfig(
            hidden_size=1152, intermediate_size=64, num_hidden_layers=2, num_attention_heads=16, image_size=384,
            patch_size=14,
        )  # fmt: skip
        SiglipVisionModel(config).half().save_pretrained(repository / "snapshots" / _REVISION)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(_REVISION)
    return SIGLIP


def _check_name(path: Path, needed: str) -> None:
    whole = str(path.resolve()).lower()
    wrong = [word for word in _CONFUSING if word in whole]
    if needed not in whole or wrong:
        raise ValueError(f"{path}: LLaVA-NeXT picks the model class by the path; this needs {needed!r} and not {wrong}")


def _write_byte_tokenizer(out: Path) -> None:
    """Byte-level BPE without merges, a token a byte: no text is unknown, and "\\n" is 198 as in Qwen (train.py:577)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(_CHAT_ENDS))
    out.mkdir(parents=True, exist_ok=True)
    made.save(str(out / "tokenizer.json"))
    config = {
        "additional_special_tokens": list(_CHAT_ENDS[1:]),
        "chat_template": _CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": _CHAT_ENDS[2],
        "pad_token": _CHAT_ENDS[0],
        "model_max_length": 4096,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def build_data(out: Path) -> Path:
    """Drawn faces as LLaVA-NeXT's JSON files, with ``face_map`` and ``face_attributes`` where a sample has them.

    ``images.json`` (four aspect ratios; the last has neither key), ``multi_image.json``, ``video.json`` (mp4),
    ``frames.json`` (a folder of frames), ``text.json``, ``mixed.json`` (all of these), ``plain.json`` (stage 1).
    """
    if (out / "mixed.json").exists():
        return out
    (out / "maps").mkdir(parents=True, exist_ok=True)
    labels = sample_attributes(len(IMAGES) + 2, seed=0)
    faces = [dict(zip(MADE_ATTRIBUTES, map(int, row), strict=True)) for row in labels]
    for i, size in enumerate(IMAGES):
        image, face_map = render(faces[i], seed=i, size=size)
        image.save(out / f"face{i}.png")
        write_map(out / "maps" / f"face{i}.png", face_map)
    _write_mp4(out / "clip.mp4", _frames(faces[4], seed=4, count=40))
    frames = out / "shareVideoGPTV" / "clip"  # train.py:1165 knows a folder of frames by this name
    frames.mkdir(parents=True)
    for i, frame in enumerate(_frames(faces[5], seed=5, count=12)):
        Image.fromarray(frame).save(frames / f"{i:04d}.png")
    for name, samples in _samples(faces).items():
        (out / f"{name}.json").write_text(json.dumps(samples, indent=1))
    return out


def _samples(faces: Sequence[Mapping[str, int]]) -> dict[str, list[dict[str, Any]]]:
    def sample(name: str, question: str, **keys: Any) -> dict[str, Any]:
        turns = [("human", question), ("gpt", "Yes"), ("human", "Is the person young?"), ("gpt", "No")]
        return {"id": name, **keys, "conversations": [{"from": who, "value": text} for who, text in turns]}

    ask = "<image>\nIs the person smiling?"
    images = [
        sample(f"image{i}", ask, image=f"face{i}.png", face_map=f"maps/face{i}.png", face_attributes=faces[i])
        for i in range(len(IMAGES) - 1)
    ]
    images.append(sample("bare", ask, image=f"face{len(IMAGES) - 1}.png"))
    several = sample(
        "several",
        "<image>\n<image>\nDo both smile?",
        image=["face0.png", "face1.png"],
        face_map=["maps/face0.png", None],
        face_attributes=[faces[0], faces[1]],
    )
    video = sample("video", ask, video="clip.mp4", face_attributes=faces[4])
    frames = sample("frames", ask, video="shareVideoGPTV/clip", face_attributes=faces[5])
    text = sample("text", "Is a moustache hair?")
    return {
        "images": images,
        "multi_image": [several] * 2,
        "video": [video] * 2,
        "frames": [frames] * 2,
        "text": [text] * 2,
        "mixed": [*images, several, video, frames, text],
        "plain": [{**row, "conversations": row["conversations"][:2]} for row in images],
    }


def _frames(face: Mapping[str, int], seed: int, count: int) -> list[np.ndarray]:
    """``count`` (H, W, 3) uint8 frames: a face that moves to the right."""
    image = np.asarray(render(face, seed=seed, size=VIDEO)[0])
    return [np.roll(image, i, axis=1) for i in range(count)]


def _write_mp4(path: Path, frames: Sequence[np.ndarray]) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *VIDEO, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
