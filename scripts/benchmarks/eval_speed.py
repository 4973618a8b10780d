"""``face_llava`` against lmms-eval's own ``llava_hf`` on one checkpoint: samples a second, and whether they agree.

    .venv/bin/python scripts/benchmarks/eval_speed.py [--questions 1 2 5 10 20 40] [--new-tokens 2] [--repeats 2]
        [--image-tokens 576|144] [--size small|tiny] [--threads N] [--json FILE]

Protocol. One LLaVA 1.5 in transformers' layout with random weights, float32, on the CPU: a Llama of 50 M parameters
besides its embeddings, a CLIP tower of 7 % of a prompt's multiplications (7B: 4 %), 576 image tokens as LLaVA 1.5 or
144, LLaVA's system prompt, made faces, and the wording of CelebA's attributes in ``llava_face_plugin.data.wording``
with "Answer yes or no.". What is measured is what a user runs: the classes that lmms-eval takes for ``--model
face_llava`` and ``--model llava_hf`` where nothing else is said, both for chat messages; rows as in our question files,
and the ``doc_to_text`` and ``doc_to_messages`` of our tasks, which open JPEG files. Both get the same requests through
``generate_until``; loading is not timed. ``llava_hf`` takes one question at a time (it allows no other batch size).
Ours runs with its defaults, starts each run with no visual tokens kept, and its time includes opening and hashing the
images. A run of ours and a run of ``llava_hf`` alternate, after one question each to warm up; the ratio is the median
over the repeats, with its range; that of CPU seconds is given too, for machines with other load.

A random model hardly ever ends an answer, so every answer has ``--new-tokens`` tokens in both: 2 is what a trained
model needs for "Yes" and the end token; 16 is the cap of our yes/no tasks and the least favourable case.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from llava_face_plugin.data.made import render, sample_attributes
from llava_face_plugin.data.wording import ANSWER_HINT, QUESTIONS
from llava_face_plugin.evaluation.scoring import doc_to_messages, doc_to_text

SIZES = {"small": (640, 1728, 10, 256, 4), "tiny": (64, 128, 2, 32, 2)}
"""LLM width, feed-forward width, layers; tower width, layers."""

IMAGES = {1: 8, 2: 8, 5: 4, 10: 2, 20: 2, 40: 2}
"""Questions an image -> images in a run, so that all take a similar time."""

SPECIAL = ["<s>", "</s>", "<pad>", "<image>"]

CHAT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. {% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] %}{{ '<image>\\n' if part['type'] == 'image' else part['text'] }}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""Of the checkpoint: LLaVA 1.5's conversation."""


@dataclass(frozen=True)
class Measured:
    """One setting. Times are medians over the repeats."""

    questions_per_image: int
    images: int
    new_tokens: int
    ours_per_second: float
    theirs_per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_ratio: float
    """Of the CPU seconds of the process: other load on the machine matters less to it."""
    different_answers: int
    asked_again: int


class Request:
    """What ``generate_until`` reads of lmms-eval's ``Instance``."""

    def __init__(self, *args: Any) -> None:
        self.args = args


def write_checkpoint(out: Path, size: str, image_tokens: int) -> Path:
    """A random ``LlavaForConditionalGeneration`` with processor and tokenizer."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    hidden, inner, layers, vision_hidden, vision_layers = SIZES[size]
    side = 14 * round(image_tokens**0.5)
    tokenizer = train_tokenizer()
    image = tokenizer.convert_tokens_to_ids("<image>")
    vision = CLIPVisionConfig(
        hidden_size=vision_hidden, intermediate_size=4 * vision_hidden, num_hidden_layers=vision_layers,
        num_attention_heads=4, image_size=side, patch_size=14, projection_dim=vision_hidden,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=8192, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64, max_position_embeddings=2048,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision.to_dict(), text_config=text.to_dict(), image_token_id=image, image_token_index=image,
        vision_feature_layer=-2, vision_feature_select_strategy="default", pad_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=14, vision_feature_select_strategy="default",
        image_token="<image>", num_additional_image_tokens=1, chat_template=CHAT,
    )  # fmt: skip
    spread(model)
    with torch.no_grad():
        model.lm_head.weight[len(tokenizer) :] = 0  # never chosen: the tokenizer has no such tokens
    for part in (model, processor, tokenizer):
        part.save_pretrained(out)
    return out


@torch.no_grad()
def spread(model: torch.nn.Module) -> None:
    """Weights that keep the variance of their input: so a question and an image change the answer."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.weight.normal_(0, module.weight[0].numel() ** -0.5)
        elif isinstance(module, torch.nn.Embedding):
            module.weight.normal_(0, 1)


def train_tokenizer() -> Any:
    """A byte-level BPE to which the words of the questions are about a token each, as they are to Llama's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([CHAT, ANSWER_HINT, *QUESTIONS.values()] * 2, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left",
        model_max_length=2048, model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip


def write_faces(out: Path, count: int) -> list[Path]:
    """Drawn faces of CelebA's size, as JPEG."""
    files = [out / f"{seed}.jpg" for seed in range(count)]
    for seed, row in enumerate(sample_attributes(count, seed=0)):
        render(row, seed)[0].save(files[seed], quality=90)
    return files


def requests(model: Any, images: Sequence[Path], questions: int, new_tokens: int) -> list[Request]:
    """Fresh ones for each run: ``llava_hf`` changes the generation arguments that it is given."""
    asked = list(QUESTIONS.values())[:questions]
    docs = [
        {"question_id": f"{image.name}-{index}", "image_id": image.name, "cluster": image.name, "kind": "yes_no",
         "images": [image.name], "video": "", "image_root": str(image.parent), "question": text}
        for image in images for index, text in enumerate(asked)
    ]  # fmt: skip
    model.task_dict["celeba"] = {"test": docs}
    kwargs = {"pre_prompt": "", "post_prompt": f" {ANSWER_HINT}"}
    messages = functools.partial(doc_to_messages, lmms_eval_specific_kwargs=kwargs)
    greedy = {"max_new_tokens": new_tokens, "temperature": 0, "do_sample": False, "until": ["\n\n"]}
    return [
        Request(doc_to_text(doc, kwargs), messages, dict(greedy), index, "celeba", "test")
        for index, doc in enumerate(docs)
    ]


def timed(model: Any, asked: list[Request]) -> tuple[tuple[float, float], list[str]]:
    """Wall and CPU seconds, and the answers. Progress bars are dropped."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        wall, cpu = time.perf_counter(), time.process_time()
        answers = model.generate_until(asked)
        seconds = time.perf_counter() - wall, time.process_time() - cpu
    return seconds, [str(getattr(answer, "text", answer)).split("\n\n")[0] for answer in answers]


def measure(ours: Any, theirs: Any, faces: Sequence[Path], questions: int, new_tokens: int, repeats: int) -> Measured:
    """``llava_hf`` does not cut its answers at ``until``; here it is done for it."""
    images = faces[: IMAGES.get(questions, 2)]
    times, different = [], 0
    again = ours.engine.asked_again
    for _ in range(repeats):
        ours.engine.cache.clear()
        first, answers = timed(ours, requests(ours, images, questions, new_tokens))
        second, expected = timed(theirs, requests(theirs, images, questions, new_tokens))
        if not any(expected):
            raise SystemExit("llava_hf gave no answer at all: it logs its errors and goes on; see above")
        times.append((first, second))
        different += sum(mine != other for mine, other in zip(answers, expected, strict=True))
    count = len(images) * questions
    walls = [b / a for (a, _), (b, _) in times]
    return Measured(
        questions, len(images), new_tokens,
        count / statistics.median(a for (a, _), _ in times),
        count / statistics.median(b for _, (b, _) in times),
        statistics.median(walls), min(walls), max(walls),
        statistics.median(b / a for (_, a), (_, b) in times),
        different, ours.engine.asked_again - again,
    )  # fmt: skip


def load(checkpoint: Path) -> tuple[Any, Any]:
    """The classes that lmms-eval takes by itself."""
    from lmms_eval.models import get_model

    given = {"pretrained": str(checkpoint), "device": "cpu", "dtype": "float32", "batch_size": 1}
    return get_model("face_llava")(**given), get_model("llava_hf")(**given, device_map="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 2, 5, 10, 20, 40])
    parser.add_argument("--new-tokens", type=int, nargs="+", default=[2])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--image-tokens", type=int, choices=(144, 576), default=576)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--threads", type=int, default=None, help="default: torch's, OMP_NUM_THREADS")
    parser.add_argument("--json", type=Path, default=None, help="write the figures there too")
    arguments = parser.parse_args()
    quiet()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="eval_speed_") as folder:
        faces = write_faces(Path(folder), max(IMAGES.values()))
        ours, theirs = load(write_checkpoint(Path(folder) / "llava-small", arguments.size, arguments.image_tokens))
        for model in (ours, theirs):
            timed(model, requests(model, faces[:1], 1, 2))
        parameters = sum(p.numel() for p in ours.engine.host.model.parameters())
        print(f"{parameters / 1e6:.0f} M parameters, {arguments.image_tokens} image tokens, float32, "
              f"{torch.get_num_threads()} thread(s), torch {torch.__version__}")  # fmt: skip
        print(f"{'questions/image':>15} {'images':>6} {'new tokens':>10} {'ours/s':>8} {'llava_hf/s':>10} "
              f"{'ratio (range)':>22} {'CPU ratio':>9} {'different':>9} {'asked again':>11}")  # fmt: skip
        rows = []
        for new_tokens in arguments.new_tokens:
            for questions in arguments.questions:
                row = measure(ours, theirs, faces, questions, new_tokens, arguments.repeats)
                rows.append(row)
                told = f"{row.ratio:.1f} ({row.ratio_low:.1f} to {row.ratio_high:.1f})"
                print(f"{questions:>15} {row.images:>6} {new_tokens:>10} {row.ours_per_second:>8.2f} "
                      f"{row.theirs_per_second:>10.2f} {told:>22} "
                      f"{row.cpu_ratio:>9.1f} {row.different_answers:>9} {row.asked_again:>11}",
                      flush=True)  # fmt: skip
    if arguments.json:
        settings = {key: str(value) for key, value in vars(arguments).items()}
        arguments.json.write_text(json.dumps({"settings": settings, "rows": [asdict(row) for row in rows]}, indent=1))


def quiet() -> None:
    """Notes of the models would hide the table."""
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    logging.disable(logging.WARNING)


if __name__ == "__main__":
    main()
