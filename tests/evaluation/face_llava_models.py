"""Tiny models, images and requests for the tests of ``face_llava``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

os.environ.setdefault("LLAVA_FACE_CPU_DRY_RUN", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SPECIAL = ["<s>", "</s>", "<pad>", "<image>"]
CHAT = (
    "{% for m in messages %}{{ 'USER: ' if m['role'] == 'user' else 'ASSISTANT: ' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
CORPUS = [
    "USER: ASSISTANT: Is the person in the image smiling? wearing eyeglasses Yes No A B C D happy sad angry surprised.",
    "Which expression does this face show? Answer with the option's letter from the given choices directly. A. B.",
]


def write_transformers_llava(out: Path, side: int = 28, chat: str | None = CHAT, **text: Any) -> Path:
    """A random llava-hf checkpoint of two layers, whose answers end at varied places."""
    transformers = pytest.importorskip("transformers", minversion="4.52")
    tokenizer = _tokenizer(chat)
    image = tokenizer.convert_tokens_to_ids("<image>")
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=side,
        patch_size=14, projection_dim=16,
    )  # fmt: skip
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 2048}  # fmt: skip
    llama = transformers.LlamaConfig(
        vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=2, initializer_range=0.3,
        **{**sizes, **text},
    )  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=vision.to_dict(), text_config=llama.to_dict(), image_token_id=image, image_token_index=image,
        vision_feature_layer=-2, vision_feature_select_strategy="default", pad_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlavaForConditionalGeneration(config).eval()
    vary(model)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = transformers.LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=14, vision_feature_select_strategy="default",
        image_token="<image>", num_additional_image_tokens=1, chat_template=chat,
    )  # fmt: skip
    model.save_pretrained(out)
    processor.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def vary(model: Any) -> None:
    """Random answers that depend on question and image, and end now and then."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Embedding | torch.nn.Conv2d):
                module.weight.normal_(0, 1 / module.weight[0].numel() ** 0.5)
        model.get_input_embeddings().weight.normal_(0, 1)
        model.lm_head.weight[1] *= 3
    model.generation_config.eos_token_id = 1


def _tokenizer(chat: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left",
        model_max_length=2048, model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    fast.chat_template = chat
    return fast


def picture(seed: int, size: tuple[int, int] = (40, 52)) -> Image.Image:
    """A picture of (width, height) that no other seed gives."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)


class Request:
    """What ``generate_until`` reads of lmms-eval's ``Instance``."""

    def __init__(self, *args: Any) -> None:
        self.args = args


GREEDY = {"max_new_tokens": 8, "temperature": 0, "do_sample": False}


def simple_requests(
    model: Any, docs: Sequence[dict[str, Any]], task: str = "demo", generation: dict[str, Any] = GREEDY
) -> list[Request]:
    """Requests of documents {"question": text, "visuals": images}, which become the model's task ``task``."""
    model.task_dict[task] = {"test": list(docs)}
    return [
        Request(doc["question"], dict(generation), lambda doc: doc["visuals"], index, task, "test")
        for index, doc in enumerate(docs)
    ]


def write_llava_v1(base: Path, out: Path, face: dict[str, Any] | None = None) -> Path:
    """A random checkpoint of LLaVA's own package on ``build_tiny``'s base, without a training.

    ``face``: the settings of face mode, whose weights are random too, so that a map changes the tokens.
    """
    pytest.importorskip("llava", reason="needs the host package: llava-torch==1.2.2.post1")
    from llava_face_plugin.hosts import loader
    from llava_face_plugin.hosts.compat.cpu import install_cpu_dry_run
    from llava_face_plugin.model_files import read_config, write_config
    from llava_face_plugin.switch import enable

    install_cpu_dry_run()
    loader.activate()
    from llava.model import LlavaLlamaForCausalLM
    from transformers import AutoTokenizer

    shutil.copytree(base, out)
    vision = read_config(base / "clip")["vision_config"]
    write_config(out, read_config(base) | {
        "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava_llama", "use_mm_proj": True,
        "mm_vision_tower": str(base / "clip"), "mm_hidden_size": vision["hidden_size"],
        "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch", "image_aspect_ratio": "pad",
        "mm_use_im_start_end": False, "mm_use_im_patch_token": False, "tokenizer_padding_side": "right",
        "tokenizer_model_max_length": 2048,
    })  # fmt: skip
    if face is not None:
        enable(out, preset="light", settings=face)
    torch.manual_seed(0)
    model = LlavaLlamaForCausalLM.from_pretrained(str(out), torch_dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.get_model().mm_projector.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(str(base), use_fast=False).save_pretrained(out)
    return out
