"""Writes a tiny random LLaVA 1.5 in transformers' own layout, for dry runs: ``tiny_hf.py OUT``. Not switched on yet.

Tokenizer, prompts' words and sizes are those of `llava-face tiny-model`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    set_seed,
)

from llava_face_plugin.tiny import build_tiny

SIDE, PATCH, HEADS = 56, 14, 4


def build(out: Path) -> Path:
    """The directory, as llava-hf's are. The same on every call."""
    with tempfile.TemporaryDirectory(prefix="tiny_hf_") as folder:  # "tmp" + "t..." would hold LLaVA's "mpt"
        tokenizer = AutoTokenizer.from_pretrained(build_tiny(Path(folder) / "llm"), use_fast=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "pad_token": "<unk>"})
    text = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 8) * 8, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=2048, pad_token_id=0,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=HEADS, image_size=SIDE,
        patch_size=PATCH,
    )  # fmt: skip
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    set_seed(0)
    LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=image_token, image_seq_length=16)
    ).save_pretrained(out)
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    LlavaProcessor(images, tokenizer, PATCH, "default", num_additional_image_tokens=1).save_pretrained(out)
    return out


if __name__ == "__main__":
    build(Path(sys.argv[1]))
