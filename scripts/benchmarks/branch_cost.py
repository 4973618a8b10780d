"""What face mode costs: parameters, bytes, LLM tokens, FLOPs, step time and peak memory, against plain LLaVA.

    .venv/bin/python scripts/benchmarks/branch_cost.py [--out DIR] [--steps N] [--device cpu|cuda]
        [--size small|7b] [--train full|projector|lora]

Two parts, never mixed:

1. Counted, at the shapes of LLaVA-1.5-7B on the meta device, for one image and 64 text tokens. The branch
   runs under torch's ``FlopCounterMode``; LLM and tower are counted by formula. A multiply-add of a matrix
   product or a convolution is 2 FLOPs; what has none (the histograms' scatter, activations, the rules) is not
   counted.
2. Measured, on random weights through the real seam (LLaVA's own classes, the face flag in ``config.json``).
   Each variant alternates step by step with the plain model in one process: A B A B ... The ratio is the
   median of B_i / A_i; the first ``WARM_UP`` pairs are dropped. Peak memory: one fresh process a variant.

``small`` has the 7B model's proportions where they decide the ratio: 9 image tokens a text token, heads 128
wide, a tower of 5 % of the forward FLOPs (7B: 4 %). The script prints both. The branch is *not* scaled down
with the LLM: at its default widths (256, knowledge 512) it is 1 % of the small model's forward FLOPs and
0.03 % of the 7B model's, and the fixed cost of a call (Python, kernel starts) weighs more too. So what is
measured there overstates the share of FLOPs at 7B, except for ``append``, whose cost is the LLM's extra tokens;
what a GPU adds (starts of many small kernels, the scatter's atomics) a CPU does not show. ``tiny`` only tries
the script.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import platform
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.config import FaceConfig, merged
from llava_face_plugin.data.made_attributes import MADE_ATTRIBUTES
from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.fusion import FUSIONS
from llava_face_plugin.knowledge.rules import load_rules
from llava_face_plugin.labels import CELEBA_ATTRIBUTES, NUM_PARTS, prompt_of

SEED = 0
WARM_UP = 2
TRAINED_BYTES = 16
"""A trained parameter: bf16 weight 2 + bf16 gradient 2 + fp32 master 4 + two fp32 Adam moments 8."""
FROZEN_BYTES = 2
_M_MMAP_THRESHOLD = -3  # glibc's malloc.h
GOALS = {"time": 1.10, "memory": 1.08, "knowledge": 1.01}
DEFAULT = "part-embedding, gated_add"
KNOWLEDGE = f"{DEFAULT}, knowledge 20"
ON_OFF = "knowledge 20 on / off (default)"


@dataclass(frozen=True)
class Size:
    """Shapes of a LLaVA model, and of the batch it is measured with (``text`` tokens besides the image's)."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    vision_intermediate: int
    image_size: int
    text: int
    batch: int
    patch_size: int = 14
    from_files: bool = True
    """Weights from ``build_tiny``'s files through ``from_pretrained``; else random, made on the device."""

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


SIZES = {
    "7b": Size(4096, 32, 32, 11008, 32000, 1024, 24, 16, 4096, 336, text=64, batch=4, from_files=False),
    "small": Size(512, 12, 4, 1024, 768, 128, 12, 4, 256, 112, text=7, batch=4),
    "tiny": Size(64, 2, 4, 128, 768, 32, 2, 4, 64, 56, text=8, batch=2, from_files=False),
}


@dataclass(frozen=True)
class Variant:
    """One way to run the model. ``settings`` None is plain LLaVA; vision_tower "own" means a second ViT."""

    label: str
    settings: dict[str, Any] | None = None
    attributes: int = 0


VANILLA, AGAIN = Variant("vanilla"), Variant("vanilla again (noise)")


def variants() -> list[Variant]:
    """Every registered encoder with every registered fusion, without knowledge."""
    made = []
    for encoder in ENCODERS:
        towers = (None, "own") if encoder == "vit-palette" else (None,)
        for tower in towers:
            name = encoder if encoder != "vit-palette" else f"{encoder} ({'own' if tower else 'shared'} ViT)"
            segmentation = {"encoder": encoder, **({"vision_tower": tower} if tower else {})}
            for fusion in FUSIONS:
                for pool in (1, 2) if fusion == "append" else (1,):
                    label = f"{name}, {fusion}" + (f" pool {pool}" if fusion == "append" else "")
                    fused = {"type": fusion, "pool": pool}
                    made.append(Variant(label, {"segmentation": segmentation, "fusion": fused}))
    return made


def with_knowledge(variant: Variant, attributes: int) -> Variant:
    """The variant with 20 made or 40 CelebA attributes."""
    return replace(variant, label=f"{variant.label}, knowledge {attributes}", attributes=attributes)


# --- part 1: counted ---------------------------------------------------------------------------------------


def llm_flops(size: Size, tokens: int) -> int:
    """One forward of the LLM: every position through the head, attention without the causal saving."""
    linear = 4 * size.hidden**2 + 3 * size.hidden * size.intermediate
    layer = 2 * tokens * linear + 4 * tokens**2 * size.hidden
    return size.layers * layer + 2 * tokens * size.hidden * size.vocabulary


def tower_flops(size: Size) -> int:
    """One forward of the vision tower over one image (all layers run, whichever is read)."""
    width, tokens = size.vision_hidden, size.patches + 1
    linear = 4 * width**2 + 2 * width * size.vision_intermediate
    patch_embedding = 2 * size.patches * 3 * size.patch_size**2 * width
    return patch_embedding + size.vision_layers * (2 * tokens * linear + 4 * tokens**2 * width)


def vision_config(size: Size) -> Any:
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=size.vision_hidden, intermediate_size=size.vision_intermediate,
        num_hidden_layers=size.vision_layers, num_attention_heads=size.vision_heads,
        patch_size=size.patch_size, image_size=size.image_size,
    )  # fmt: skip


def llm_parameters(size: Size) -> int:
    layer = 4 * size.hidden**2 + 3 * size.hidden * size.intermediate + 2 * size.hidden
    return size.layers * layer + size.hidden + 2 * size.vocabulary * size.hidden


def tower_parameters(size: Size) -> int:
    from transformers import CLIPVisionModel

    with torch.device("meta"):
        return count(CLIPVisionModel(vision_config(size)))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def projector(size: Size) -> list[nn.Module]:
    """LLaVA 1.5's mlp2x_gelu."""
    return [nn.Linear(size.vision_hidden, size.hidden), nn.GELU(), nn.Linear(size.hidden, size.hidden)]


def knowledge_block(attributes: int) -> dict[str, Any]:
    """Prompts of three tokens and two neighbours an attribute: shapes count here, not contents."""
    names, rules = {20: (MADE_ATTRIBUTES, "made"), 40: (CELEBA_ATTRIBUTES, "celeba")}[attributes]
    return {
        "file": rules,
        "attributes": [{"name": n, "prompt": prompt_of(n), "tokens": [1, 2, 3]} for n in names],
        "graph": {n: {names[i - 1]: 0.5, names[i - 2]: 0.5} for i, n in enumerate(names)},
        "rules": [rule.to_dict() for rule in load_rules(rules)],
    }


def face_config(variant: Variant, size: Size) -> FaceConfig:
    block = merged({"enabled": True}, variant.settings or {})
    if block["segmentation"].get("vision_tower"):
        block["segmentation"]["vision_width"] = size.vision_hidden
    if variant.attributes:
        block["knowledge"] = knowledge_block(variant.attributes)
    return FaceConfig.parse(block)


@dataclass
class Counted:
    """One variant at one size: absolute extras, and the ratios to plain LLaVA (``*_ratio``, 1 = free)."""

    label: str
    trained_parameters: int
    frozen_parameters: int
    weight_bytes: int
    training_bytes: int
    tokens: int
    forward_flops: float
    training_flops: float
    weight_ratio: float
    training_bytes_ratio: float
    forward_ratio: float
    training_ratio: float
    """Stage 2: every LLM weight trained (backward = 2 forwards), the tower frozen."""
    stage1_ratio: float
    """Stage 1: the LLM frozen, its activations' gradient needed (backward = 1 forward)."""


def counted(size: Size, chosen: list[Variant], batch: int = 1) -> list[Counted]:
    """Extras per image. The knowledge head refines its prompts once a batch: batch 1 is its worst case."""
    tower, base_tokens = tower_flops(size), size.patches + size.text
    base_llm = llm_flops(size, base_tokens)
    plain = _flops(size, None, batch)
    tower_params = tower_parameters(size)
    with torch.device("meta"):
        trained = llm_parameters(size) + sum(count(m) for m in projector(size))
    weights = FROZEN_BYTES * (trained + tower_params)
    state = TRAINED_BYTES * trained + FROZEN_BYTES * tower_params
    rows = []
    for variant in chosen:
        run = _flops(size, variant, batch)
        added = run.tokens - size.patches
        llm = llm_flops(size, base_tokens + added) - base_llm
        own = tower_params if "vision_tower" in (variant.settings or {})["segmentation"] else 0
        forward, training = run.forward - plain.forward, run.training - plain.training
        more_weights = FROZEN_BYTES * (run.parameters + own)
        more_state = TRAINED_BYTES * run.parameters + FROZEN_BYTES * own
        rows.append(
            Counted(
                variant.label, run.parameters, own, more_weights, more_state, added,
                forward_flops=forward + llm,
                training_flops=training + 3 * llm,
                weight_ratio=1 + more_weights / weights,
                training_bytes_ratio=1 + more_state / state,
                forward_ratio=1 + (forward + llm) / (base_llm + tower + plain.forward),
                training_ratio=1 + (training + 3 * llm) / (3 * base_llm + tower + plain.training),
                stage1_ratio=1 + (training + 2 * llm) / (2 * base_llm + tower + plain.training),
            )
        )  # fmt: skip
    return rows


def _flops(size: Size, variant: Variant | None, batch: int) -> SimpleNamespace:
    """Projector with or without branch: FLOPs an image, forward and in all; tokens out; parameters."""
    from transformers import CLIPVisionModel

    with torch.device("meta"):
        layers = projector(size)
        features = torch.empty(batch, size.patches, size.vision_hidden)
        label_map = torch.empty(batch, size.image_size, size.image_size)
        branch = None if variant is None else FaceBranch(face_config(variant, size), size.vision_hidden, size.hidden)
        vit = CLIPVisionModel(vision_config(size))

    @torch.no_grad()
    def read(rgb: Tensor) -> Tensor:
        return vit(rgb).last_hidden_state[:, 1:]

    with FlopCounterMode(display=False) as forward:
        if branch is None:
            tokens = nn.Sequential(*layers)(features)
        else:
            tokens = branch(layers, features, label_map, read)
        loss = tokens.sum()
        if branch is not None and branch.knowledge is not None:
            head, attributes = branch.knowledge, len(branch.knowledge.config.attributes)
            logits = head(tokens, torch.empty(attributes, 3, size.hidden, device="meta"))
            labels = torch.empty(batch, attributes, dtype=torch.int8, device="meta")
            loss = loss + head.weighted(head.losses(logits, labels))
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    once, back = forward.get_total_flops() / batch, backward.get_total_flops() / batch
    parameters = 0 if branch is None else count(branch)
    return SimpleNamespace(forward=once, training=once + back, tokens=tokens.shape[1], parameters=parameters)


# --- part 2: measured --------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Where the model directories lie, and how the models are run."""

    size: Size
    device: str
    train: str
    work: Path
    directories: dict[str, Path] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device == "cpu" else torch.bfloat16

    def write_base(self) -> None:
        """The plain model's directory: tokenizer, configuration, tower; weights only where ``from_files``."""
        from llava_face_plugin.tiny import build_tiny

        size, base = self.size, self.work / "base"
        if size.from_files:
            build_tiny(
                base, hidden=size.hidden, layers=size.layers, image_size=size.image_size,
                patch_size=size.patch_size, vision_hidden=size.vision_hidden,
                vision_layers=size.vision_layers, seed=SEED,
            )  # fmt: skip
            return
        build_tiny(base, seed=SEED)
        _edit_json(base / "config.json", {
            "hidden_size": size.hidden, "intermediate_size": size.intermediate, "vocab_size": size.vocabulary,
            "num_attention_heads": size.heads, "num_key_value_heads": size.heads,
            "num_hidden_layers": size.layers,
        })  # fmt: skip
        from transformers import CLIPVisionModel

        CLIPVisionModel(vision_config(size)).half().save_pretrained(base / "clip")
        _edit_json(
            base / "clip" / "preprocessor_config.json",
            {"crop_size": size.image_size, "size": size.image_size},
        )

    def directory(self, variant: Variant) -> Path:
        """The variant's model directory, made by ``switch.enable`` when first asked for."""
        from llava_face_plugin.switch import enable

        if variant.settings is None:
            return self.work / "base"
        out = self.work / variant.label.replace(" ", "-").replace(",", "").replace("(", "").replace(")", "")
        if not out.exists():
            settings = variant.settings
            if settings["segmentation"].get("vision_tower"):
                settings = merged(settings, {"segmentation": {"vision_tower": str(self.work / "base" / "clip")}})
            enable(
                self.work / "base",
                settings=settings,
                knowledge="made" if variant.attributes else None,
                out=out,
            )
        return out

    def load(self, variant: Variant) -> nn.Module:
        """The model as train.py builds it, in training mode, with the wanted parameters trainable."""
        import llava.model  # noqa: F401  the plugin's hook wakes up here
        from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM

        torch.manual_seed(SEED)
        directory = self.directory(variant)
        if self.size.from_files:
            model = LlavaLlamaForCausalLM.from_pretrained(str(directory), torch_dtype=self.dtype)
        else:
            model = _random_model(directory, self.device, self.dtype)
        model.config.use_cache = False
        model.get_model().initialize_vision_modules(
            SimpleNamespace(
                vision_tower=str(self.work / "base" / "clip"), mm_vision_select_layer=-2,
                mm_vision_select_feature="patch", pretrain_mm_mlp_adapter=None, mm_patch_merge_type="flat",
                mm_projector_type="mlp2x_gelu",
            )
        )  # fmt: skip
        model.to(device=self.device, dtype=self.dtype).train()
        _check_class(model, variant)
        set_trainable(model, self.train)
        return model

    def batch(self, variant: Variant) -> dict[str, Tensor]:
        """Random pixels, a label map of blocks, random text; half of the text is the answer."""
        size, generator = self.size, torch.Generator().manual_seed(SEED)
        ids = torch.randint(3, 700, (size.batch, size.text + 1), generator=generator)
        ids[:, 1] = -200  # LLaVA's IMAGE_TOKEN_INDEX
        labels = torch.where(torch.arange(size.text + 1) > size.text // 2, ids, -100)
        images = torch.randn(size.batch, 3, size.image_size, size.image_size, generator=generator)
        blocks = torch.randint(0, NUM_PARTS, (size.batch, 1, 7, 7), generator=generator).float()
        made = {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids, dtype=torch.bool)}
        if variant.settings is not None:
            label_map = nn.functional.interpolate(blocks, size=images.shape[-2:], mode="nearest")
            images = torch.cat([images, label_map], dim=1)
        if variant.attributes:
            attributes = torch.randint(0, 2, (size.batch, variant.attributes), generator=generator)
            made["face_attributes"] = attributes.to(torch.int8)
        made["images"] = images.to(self.dtype)
        return {name: value.to(self.device) for name, value in made.items()}

    def stepper(self, variant: Variant) -> Callable[[], tuple[float, float]]:
        """A function that runs one training step and returns its wall and CPU seconds."""
        model, batch = self.load(variant), self.batch(variant)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)

        def step() -> tuple[float, float]:
            _wait(self.device)
            wall, cpu = time.perf_counter(), time.process_time()
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            _wait(self.device)
            return time.perf_counter() - wall, time.process_time() - cpu

        return step


def _edit_json(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=2))


def _random_model(directory: Path, device: str, dtype: torch.dtype) -> nn.Module:
    """What ``from_pretrained`` would build from the configuration, with random weights on the device."""
    from llava.model.language_model.llava_llama import LlavaConfig, LlavaLlamaForCausalLM

    from llava_face_plugin.hosts import guard, llava_v1

    config = LlavaConfig.from_pretrained(str(directory))
    if getattr(config, "mm_vision_tower", None) == guard.TOWER_MARK:
        del config.mm_vision_tower
    llava_v1.activate()
    cls = LlavaLlamaForCausalLM if FaceConfig.of(config) is None else llava_v1.face_class()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return cls(config)
    finally:
        torch.set_default_dtype(before)


def _check_class(model: nn.Module, variant: Variant) -> None:
    if getattr(model, "is_face_model", False) != (variant.settings is not None):
        raise SystemExit(f"{variant.label}: LLaVA built {type(model).__name__}; is the plugin's hook active?")


class LowRank(nn.Module):
    """A frozen linear layer with a trained update of rank 128, as LoRA (LLaVA's lora_r)."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.plain = plain
        like: dict[str, Any] = {"bias": False, "device": plain.weight.device, "dtype": plain.weight.dtype}
        self.down = nn.Linear(plain.in_features, 128, **like)
        self.up = nn.Linear(128, plain.out_features, **like)

    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x) + self.up(self.down(x))


def set_trainable(model: Any, train: str) -> None:
    """``full``: stage 2. ``projector``: stage 1, the LLM frozen. ``lora``: that and low-rank updates."""
    model.requires_grad_(train == "full")
    model.get_vision_tower().requires_grad_(False)
    model.get_model().mm_projector.requires_grad_(True)
    if train == "lora":
        for layer in model.get_model().layers:
            for block in (layer.self_attn, layer.mlp):
                for name, child in list(block.named_children()):
                    if isinstance(child, nn.Linear):
                        setattr(block, name, LowRank(child))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def paired(first: list[float], second: list[float]) -> dict[str, float]:
    """Median of second_i / first_i with its quartiles and a 95 % bootstrap interval of the median."""
    ratios = np.array(second) / np.array(first)
    drawn = np.random.default_rng(SEED).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    q1, q3 = np.quantile(ratios, [0.25, 0.75])
    return {
        "ratio": float(np.median(ratios)),
        "q1": float(q1), "q3": float(q3), "low": float(low), "high": float(high),
        "first_ms": 1e3 * statistics.median(first), "second_ms": 1e3 * statistics.median(second),
    }  # fmt: skip


def comparisons() -> Iterator[tuple[str, Variant, Variant, int]]:
    """(name, A, B, factor on the number of pairs). The first is A against A: what the machine's noise is."""
    by_label = {variant.label: variant for variant in variants()}
    default = by_label.pop(DEFAULT)
    known = with_knowledge(default, 20)
    yield ON_OFF, default, known, 4
    for variant, factor in ((AGAIN, 2), (default, 2), (known, 2), *((v, 1) for v in by_label.values())):
        yield variant.label, VANILLA, variant, factor


def measure_time(bench: Bench, steps: int, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Paired step times of every comparison: wall clock, and this process's CPU time (CPU only)."""
    found: dict[str, dict[str, Any]] = {}
    held: dict[str, Callable[[], tuple[float, float]]] = {}
    for name, first, second, factor in comparisons():
        for label in set(held) - {first.label}:
            del held[label]
        gc.collect()
        if first.label not in held:
            held[first.label] = bench.stepper(first)
        a, b = held[first.label], bench.stepper(second)
        times = [(a(), b()) for _ in range(WARM_UP + factor * steps)][WARM_UP:]
        wall = paired([pair[0][0] for pair in times], [pair[1][0] for pair in times])
        cpu = paired([pair[0][1] for pair in times], [pair[1][1] for pair in times])
        found[name] = {"pairs": len(times), "wall": wall, **({"cpu": cpu} if bench.device == "cpu" else {})}
        say(f"{name}: wall x{wall['ratio']:.3f}" + (f", CPU x{cpu['ratio']:.3f}" if bench.device == "cpu" else ""))
    return found


def measure_memory(bench: Bench, say: Callable[[str], None]) -> dict[str, int]:
    """Peak bytes of the training steps of each variant, each in its own process: label -> bytes.

    Call it before this process builds a model. Forks where it can: the imports take longer than the steps.
    """
    import llava.model  # noqa: F401
    import transformers.models.clip.modeling_clip  # noqa: F401

    known = with_knowledge(next(v for v in variants() if v.label == DEFAULT), 20)
    if bench.device == "cpu":
        _tidy_heap()
    context = multiprocessing.get_context("fork" if bench.device == "cpu" else "spawn")
    peaks = {}
    for variant in (VANILLA, AGAIN, *variants(), known):
        bench.directory(variant)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            peaks[variant.label] = pool.submit(peak_of, bench, variant).result()
        say(f"{variant.label}: peak {peaks[variant.label] / 2**20:.1f} MiB")
    return peaks


def _tidy_heap() -> None:
    """Has glibc give each tensor pages of its own: resident memory is then what is alive."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    gc.collect()
    libc.malloc_trim(0)


def peak_of(bench: Bench, variant: Variant) -> int:
    """Bytes: on CUDA the most ever allocated; on the CPU the most by which resident memory grew."""
    if bench.device == "cuda":
        step = bench.stepper(variant)
        for _ in range(3):
            step()
        return torch.cuda.max_memory_allocated()
    before = 4096 * int(Path("/proc/self/statm").read_text().split()[1])
    step = bench.stepper(variant)
    for _ in range(3):
        step()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


# --- the report --------------------------------------------------------------------------------------------


def counted_table(rows: list[Counted]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of part 1."""
    head = [
        "variant", "trained", "frozen", "weights MiB", "training state MiB", "LLM tokens",
        "GFLOP forward", "GFLOP training", "forward", "training", "stage 1",
    ]  # fmt: skip
    cells = [
        [
            r.label, f"{r.trained_parameters / 1e6:.2f} M", f"{r.frozen_parameters / 1e6:.0f} M",
            f"{r.weight_bytes / 2**20:.1f} ({_x(r.weight_ratio)})",
            f"{r.training_bytes / 2**20:.1f} ({_x(r.training_bytes_ratio)})",
            f"+{r.tokens}", f"+{r.forward_flops / 1e9:.3g}", f"+{r.training_flops / 1e9:.3g}",
            _x(r.forward_ratio), _x(r.training_ratio), _x(r.stage1_ratio),
        ]
        for r in rows
    ]  # fmt: skip
    return head, cells


def measured_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of part 2."""
    kinds = [kind for kind in ("wall", "cpu") if kind in next(iter(results["time"].values()))]
    head = ["comparison", "pairs", "ms A / B (wall)"]
    for kind in kinds:
        head += [f"{kind} ratio", f"{kind} 95 % (quartiles)"]
    head += ["peak memory ratio", "FLOPs say"]
    cells = []
    for name, found in results["time"].items():
        row = [
            name,
            str(found["pairs"]),
            f"{found['wall']['first_ms']:.0f} / {found['wall']['second_ms']:.0f}",
        ]
        for kind in kinds:
            f = found[kind]
            spread = f"{f['low']:.3f}-{f['high']:.3f} ({f['q1']:.3f}-{f['q3']:.3f})"
            row += [f"{f['ratio']:.3f}", spread]
        memory, flops = results["memory_ratio"].get(name), results["flops_ratio"].get(name)
        cells.append([*row, f"{memory:.3f}" if memory else "-", _x(flops) if flops else "-"])
    return head, cells


def _x(ratio: float) -> str:
    return f"x{ratio:.4f}" if ratio < 1.01 else f"x{ratio:.3f}"


def goals(results: dict[str, Any]) -> list[str]:
    """Each goal, met or missed. CPU time decides where there is one: the machine may be shared."""

    def ratio(name: str) -> float:
        found = results["time"][name]
        return float(found.get("cpu", found["wall"])["ratio"])

    checks = [
        ("default step / vanilla step", ratio(DEFAULT), GOALS["time"]),
        ("default with knowledge / vanilla step", ratio(KNOWLEDGE), GOALS["time"]),
        ("knowledge on / off, step", ratio(ON_OFF), GOALS["knowledge"]),
        ("default memory / vanilla", results["memory_ratio"][DEFAULT], GOALS["memory"]),
        ("default with knowledge, memory / vanilla", results["memory_ratio"][KNOWLEDGE], GOALS["memory"]),
    ]
    return [f"{'met' if r <= goal else 'MISSED'}: {name} x{r:.3f} (goal x{goal:.2f})" for name, r, goal in checks]


def proportions(size: Size) -> str:
    """The size's shares of forward FLOPs, to hold against the 7B model's."""
    llm, tower = llm_flops(size, size.patches + size.text), tower_flops(size)
    default = counted(size, [v for v in variants() if v.label == DEFAULT])[0].forward_flops
    total = llm + tower
    shares = {"LLM": llm, "tower": tower, "default branch (extra)": default}
    return ", ".join(f"{name} {100 * flops / total:.2f} %" for name, flops in shares.items())


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    import importlib.metadata as metadata

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = ("torch", "transformers", "llava-torch", "numpy", "llava-face-plugin")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    return {
        "cpu": next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?"),
        "cores": os.cpu_count(), "threads": torch.get_num_threads(), "load_average": os.getloadavg(),
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "python": platform.python_version(), "versions": versions, "seed": SEED,
        "command": shlex.join(["python", *sys.argv]), "date": time.strftime("%Y-%m-%d %H:%M"),
    }  # fmt: skip


def write(out: Path, results: dict[str, Any], tables: list[tuple[str, list[str], list[list[str]]]]) -> None:
    """``results.json`` and ``results.md`` in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    lines = []
    for title, head, cells in tables:
        lines += [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in cells] + [""]
    lines += ["## Goals", "", *[f"- {line}" for line in results["goals"]], "", "## Protocol", ""]
    lines += [f"- {name}: {value}" for name, value in {**results["machine"], **results["protocol"]}.items()]
    (out / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def show(tables: list[tuple[str, list[str], list[list[str]]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 200)
    for title, head, cells in tables:
        table = Table(title=title)
        for heading in head:
            table.add_column(heading, justify="left" if heading == head[0] else "right")
        for row in cells:
            table.add_row(*row)
        console.print(table)


def measured(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Part 2, and what the FLOP counts of the same size say about it."""
    import transformers

    transformers.logging.set_verbosity_error()  # its word on "model of type llama" and the like, once a variant
    bench = Bench(SIZES[arguments.size], arguments.device, arguments.train, work)
    bench.write_base()
    say = (lambda line: print(line, file=sys.stderr, flush=True)) if not arguments.quiet else (lambda line: None)
    peaks = measure_memory(bench, say)  # before this process holds device memory
    names = list(comparisons())
    chosen = [b for _, _, b, _ in names if b.settings is not None]
    rows = {row.label: row for row in counted(bench.size, chosen, bench.size.batch)}
    column = {"full": "training_ratio"}.get(arguments.train, "stage1_ratio")  # lora: nearly stage 1's

    def flops(variant: Variant) -> float:
        return getattr(rows[variant.label], column) if variant.settings is not None else 1.0

    return {
        "peak_bytes": peaks,
        "memory_ratio": {name: peaks[b.label] / peaks[a.label] for name, a, b, _ in names},
        "time": measure_time(bench, arguments.steps, say),
        "flops_ratio": {name: flops(b) / flops(a) for name, a, b, _ in names},
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("branch_cost"))
    parser.add_argument("--steps", type=int, default=8, help="pairs a variant; default x2, knowledge x4")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--train", choices=("full", "projector", "lora"), help="default: full; 7b: projector")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="no line a variant on stderr")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU")
    if arguments.size == "7b" and arguments.device != "cuda":
        parser.error("--size 7b is run on a GPU only: --device cuda")
    arguments.train = arguments.train or ("projector" if arguments.size == "7b" else "full")
    return arguments


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="branch_cost_") as work:
        part2 = measured(arguments, Path(work))
    known = [with_knowledge(v, n) for v in variants() for n in (20, 40)]
    rows = counted(SIZES["7b"], [*variants(), *known])
    small = {name: proportions(SIZES[name]) for name in ("7b", arguments.size)}
    print("\n".join(f"forward FLOPs, {name}: {text}" for name, text in small.items()))
    results = {
        "counted_7b": [asdict(row) for row in rows], **part2, "machine": machine(arguments),
        "protocol": {
            "size": f"{arguments.size}: {SIZES[arguments.size]}", "train": arguments.train,
            "forward FLOPs": small, "warm-up pairs dropped": WARM_UP,
        },
    }  # fmt: skip
    results["goals"] = goals(results)
    shown = [row for row in rows if "knowledge" not in row.label or row.label.startswith(DEFAULT)]
    tables = [
        ("Counted at LLaVA-1.5-7B, per image", *counted_table(shown)),
        (f"Measured, {arguments.size} model, {arguments.train} training", *measured_table(results)),
    ]
    show(tables)
    print("\n".join(results["goals"]))
    write(arguments.out, results, tables)
    print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
