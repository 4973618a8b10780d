"""A tiny random LLaVA training base, made offline: what a demo or a test trains in place of vicuna and CLIP.

Everything here is our default. The files have the layout of lmsys/vicuna-7b-v1.5 and of
openai/clip-vit-large-patch14-336, and load on transformers 4.37, 4.57 and 5.23 with equal token ids (texts
that begin with a space apart: 5.x puts no second one before it, with any Llama tokenizer).
"""

from __future__ import annotations

import io
import json
import math
import random
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .errors import FaceConfigError
from .labels import CELEBA_ATTRIBUTES, prompt_of

HEADS = 4
"""Attention heads of both models; every width must be a multiple of it."""

VOCABULARY = 768
MAX_LENGTH = 2048

# ".USER:" without a space: LLaVA's masking of several turns (train.py, preprocess_v1) counts on a tokenizer,
# such as Llama's, to which "USER" is one token after "</s>" but two, "▁" and "USER", at the start of a text.
_CHAT = (
    "A chat between a curious user and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "questions.USER: Is the person wearing eyeglasses? Answer yes or no. ASSISTANT: Yes",
    "Yes.USER: Is the person smiling? Answer yes or no. ASSISTANT: No",
    "No.USER: Describe the face in the picture. ASSISTANT: The person is smiling and has brown hair.",
    "What emotion does the person show? Happy. Sad. Angry. Surprised. Afraid. Disgusted. Neutral.",
    "Does the person have black hair? Is the person a man or a woman? Is the mouth slightly open?",
    "Answer the question using a single word or phrase. How old is the person? What does the face show?",
    "The left eye is open, the mouth is closed and the skin is fair. The person is young and has no beard.",
)


def build_tiny(
    out_dir: str | Path,
    *,
    preset: str | None = None,
    hidden: int = 64,
    layers: int = 2,
    image_size: int = 56,
    patch_size: int = 14,
    vision_hidden: int = 32,
    vision_layers: int = 3,
    seed: int = 0,
    corpus: Sequence[str] | None = None,
) -> Path:
    """Writes a Llama directory with random float16 weights, and a CLIP tower in its folder ``clip``.

    Returns ``out_dir``. The same arguments write the same bytes. The tower's patch filters are low image
    frequencies, so that different pictures give different features although nothing was trained.

    Args:
        preset: switches face mode on with that preset (``switch.enable``). ``None``: a plain LLaVA base.
        hidden, layers: width and depth of the language model.
        image_size, patch_size: side in pixels of the tower's input and of a patch.
        vision_hidden, vision_layers: width and depth of the tower; LLaVA reads the last layer but one.
        corpus: sentences to train the tokenizer on besides the built-in ones, which hold LLaVA's system
            prompt, closed questions with "Yes" and "No", and CelebA's attribute names.

    Raises ``FaceConfigError`` for sizes that do not fit together, and for a path with "mpt" in it, which
    LLaVA takes for an MPT model. LLaVA loads by the *name* of a directory: save what you train under a name
    with "llava" in it, LoRA adapters under one with "llava" and "lora".
    """
    out = Path(out_dir)
    _check_sizes(hidden, image_size, patch_size, vision_hidden, vision_layers)
    if "mpt" in str(out.resolve()):
        raise FaceConfigError(f"{out.resolve()}: LLaVA takes a path with 'mpt' in it for an MPT model; choose another")
    (out / "clip").mkdir(parents=True, exist_ok=True)
    random_numbers = torch.Generator().manual_seed(seed)
    _write_tokenizer(out, sentences(corpus or ()), seed)
    _write_language_model(out, hidden, layers, random_numbers)
    _write_tower(out / "clip", image_size, patch_size, vision_hidden, vision_layers, random_numbers)
    if preset is not None:
        from .switch import enable

        enable(out, preset=preset)
    return out


def sentences(extra: Sequence[str] = ()) -> list[str]:
    """The tokenizer's training text: the built-in sentences, the attributes as questions, and ``extra``."""
    names = [prompt_of(name) for name in CELEBA_ATTRIBUTES]
    asked = [f"Is the person {name}? Does the person have {name}? Answer yes or no." for name in names]
    return [*_CHAT, *asked, " ".join(string.ascii_letters + string.digits + string.punctuation), *extra]


def _check_sizes(hidden: int, image_size: int, patch_size: int, vision_hidden: int, vision_layers: int) -> None:
    for name, width in (("hidden", hidden), ("vision_hidden", vision_hidden)):
        if width <= 0 or width % (2 * HEADS):
            raise FaceConfigError(f"{name} must be a positive multiple of {2 * HEADS}, not {width}")
    if image_size <= 0 or patch_size <= 0 or image_size % patch_size:
        raise FaceConfigError(f"image_size {image_size} is not a positive multiple of patch_size {patch_size}")
    if vision_hidden > 3 * patch_size**2:
        raise FaceConfigError(f"vision_hidden must be at most 3 * patch_size**2 = {3 * patch_size**2}")
    if vision_layers < 2:
        raise FaceConfigError("vision_layers must be at least 2: LLaVA reads the layer before the last")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_tokenizer(out: Path, text: Sequence[str], seed: int) -> None:
    import sentencepiece

    model = io.BytesIO()
    # An iterator and a writer, not file names: those would be stored in the model.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_shuffled_text(text, seed),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        character_coverage=1.0,
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    (out / "tokenizer.model").write_bytes(model.getvalue())
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    _write_json(out / "special_tokens_map.json", special)
    config: dict[str, Any] = {
        **special,
        "pad_token": None,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        # Without this key transformers 4 and 5 give different token ids.
        "legacy": False,
        "model_max_length": MAX_LENGTH,
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    }
    _write_json(out / "tokenizer_config.json", config)


def _shuffled_text(text: Sequence[str], seed: int) -> Iterator[str]:
    """Each sentence as it is, then lines of shuffled words: BPE needs some volume to fill its vocabulary."""
    yield from text
    words = sorted({word for sentence in text for word in sentence.split()} | {"Yes", "No"})
    shuffle = random.Random(seed)
    for _ in range(2000):
        yield " ".join(shuffle.choices(words, k=10))


def _write_language_model(out: Path, hidden: int, layers: int, random_numbers: torch.Generator) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": MAX_LENGTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": HEADS,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }
    _write_json(out / "config.json", config)
    # vicuna ships temperature and top_p without do_sample; newer transformers then refuse the final save.
    generation = {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "max_length": MAX_LENGTH,
        "do_sample": False,
    }
    _write_json(out / "generation_config.json", generation)
    weights = {
        "model.embed_tokens.weight": torch.randn(VOCABULARY, hidden, generator=random_numbers),
        "model.norm.weight": torch.ones(hidden),
        "lm_head.weight": 0.02 * torch.randn(VOCABULARY, hidden, generator=random_numbers),
    }
    for i in range(layers):
        weights.update(_decoder_layer(f"model.layers.{i}.", hidden, 1 / math.sqrt(2 * layers), random_numbers))
    save_file({k: v.half() for k, v in weights.items()}, out / "model.safetensors", metadata={"format": "pt"})


def _decoder_layer(prefix: str, hidden: int, residual: float, random_numbers: torch.Generator) -> dict[str, Tensor]:
    weights = {f"self_attn.{n}_proj.weight": _linear(hidden, hidden, random_numbers) for n in "qkv"}
    weights["self_attn.o_proj.weight"] = residual * _linear(hidden, hidden, random_numbers)
    weights["mlp.gate_proj.weight"] = _linear(2 * hidden, hidden, random_numbers)
    weights["mlp.up_proj.weight"] = _linear(2 * hidden, hidden, random_numbers)
    weights["mlp.down_proj.weight"] = residual * _linear(hidden, 2 * hidden, random_numbers)
    weights["input_layernorm.weight"] = torch.ones(hidden)
    weights["post_attention_layernorm.weight"] = torch.ones(hidden)
    return {prefix + name: weight for name, weight in weights.items()}


def _linear(outputs: int, inputs: int, random_numbers: torch.Generator) -> Tensor:
    """A weight that keeps the variance of its input."""
    return torch.randn(outputs, inputs, generator=random_numbers) / math.sqrt(inputs)


def _write_tower(
    out: Path, image_size: int, patch_size: int, hidden: int, layers: int, random_numbers: torch.Generator
) -> None:
    vision = {
        "model_type": "clip_vision_model",
        "attention_dropout": 0.0,
        "hidden_act": "quick_gelu",
        "hidden_size": hidden,
        "image_size": image_size,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 2 * hidden,
        "layer_norm_eps": 1e-5,
        "num_attention_heads": HEADS,
        "num_channels": 3,
        "num_hidden_layers": layers,
        "patch_size": patch_size,
        "projection_dim": hidden,
    }
    text = {
        "model_type": "clip_text_model",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 16,
        "num_attention_heads": HEADS,
        "num_hidden_layers": 1,
        "projection_dim": hidden,
        "vocab_size": 99,
    }
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "logit_scale_init_value": 2.6592,
        "projection_dim": hidden,
        "text_config": text,
        "torch_dtype": "float32",
        "vision_config": vision,
    }
    _write_json(out / "config.json", config)
    processor = {
        "crop_size": image_size,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": image_size,
    }
    _write_json(out / "preprocessor_config.json", processor)
    weights = _tower_weights(image_size // patch_size, patch_size, hidden, layers, random_numbers)
    save_file(
        {f"vision_model.{k}": v.contiguous() for k, v in weights.items()},
        out / "model.safetensors",
        metadata={"format": "pt"},
    )


def _tower_weights(
    grid: int, patch_size: int, hidden: int, layers: int, random_numbers: torch.Generator
) -> dict[str, Tensor]:
    weights = {
        "embeddings.class_embedding": torch.randn(hidden, generator=random_numbers),
        "embeddings.patch_embedding.weight": _patch_filters(hidden, patch_size, random_numbers),
        "embeddings.position_embedding.weight": 0.2 * torch.randn(grid**2 + 1, hidden, generator=random_numbers),
        **_layer_norm("pre_layrnorm", hidden),
        **_layer_norm("post_layernorm", hidden),
    }
    for i in range(layers):
        prefix = f"encoder.layers.{i}."
        linears = {f"self_attn.{n}_proj": _linear(hidden, hidden, random_numbers) for n in "qkv"}
        # Half strength into the residual stream: what a patch shows stays readable at that patch.
        linears["self_attn.out_proj"] = 0.5 * _linear(hidden, hidden, random_numbers)
        linears["mlp.fc1"] = _linear(2 * hidden, hidden, random_numbers)
        linears["mlp.fc2"] = 0.5 * _linear(hidden, 2 * hidden, random_numbers)
        for name, weight in linears.items():
            weights[f"{prefix}{name}.weight"] = weight
            weights[f"{prefix}{name}.bias"] = torch.zeros(weight.shape[0])
        weights |= _layer_norm(f"{prefix}layer_norm1", hidden) | _layer_norm(f"{prefix}layer_norm2", hidden)
    return weights


def _layer_norm(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}


def _patch_filters(count: int, side: int, random_numbers: torch.Generator) -> Tensor:
    """(count, 3, side, side): the ``count`` lowest DCT frequencies of the colour channels, rotated.

    A random filter would see mostly high frequencies, of which pictures have little. Each frequency is
    weighted by its own size, against the 1/f fall of natural pictures.
    """
    position = (torch.arange(side, dtype=torch.float64) + 0.5) * math.pi / side
    waves = torch.cos(torch.arange(side, dtype=torch.float64)[:, None] * position) * math.sqrt(2 / side)
    waves[0] /= math.sqrt(2)
    order = sorted((u * u + v * v, u, v) for u in range(side) for v in range(side))[: math.ceil(count / 3)]
    filters = torch.zeros(3 * len(order), 3, side, side, dtype=torch.float64)
    for i, (square, u, v) in enumerate(order):
        plane = torch.outer(waves[u], waves[v]) * max(0.5, math.sqrt(square)) / side
        for channel in range(3):
            filters[3 * i + channel, channel] = plane
    rotation, _ = torch.linalg.qr(torch.randn(count, count, generator=random_numbers, dtype=torch.float64))
    return torch.einsum("oi,ichw->ochw", rotation, filters[:count]).float()
