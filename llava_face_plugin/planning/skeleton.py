"""A LLaVA of real modules that run on shapes alone: tower, projector, face branch, language model and its loss.

The hosts differ in how they put image tokens among the text's, by operations whose sizes depend on values, which
shapes alone cannot run. Here the tokens are joined in one ``cat``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..branch import FaceBranch
from ..config import FaceConfig
from ..encoders.backbones import denormalise
from ..errors import FaceConfigError
from ..facial_config import CLIP_MEAN, CLIP_STD
from ..fusion import Auxiliary, Layers, Prompt
from .branches import branch_of
from .shapes import PACKAGES, Shapes
from .work import DTYPES, Work

TOWER, PROJECTOR, FACE, LANGUAGE = "vision tower", "projector", "face branch", "language model"
PROJECTION, LOSS = "projector and branch", "logits and loss"
FACE_VIT = "face ViT"
"""The frozen ViT of its own that ``vit-palette`` may read maps with."""
FACIAL = "facial encoder"

LORA_DROPOUT = 0.05
"""LLaVA's ``lora_dropout``."""


class LowRank(nn.Module):
    """A frozen linear layer with a trained low-rank update, as PEFT computes it."""

    def __init__(self, plain: nn.Linear, rank: int) -> None:
        super().__init__()
        self.plain = plain
        self.dropout = nn.Dropout(LORA_DROPOUT)
        self.down = nn.Linear(plain.in_features, rank, bias=False)
        self.up = nn.Linear(rank, plain.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x) + self.up(self.down(self.dropout(x))) * 2.0  # lora_alpha / lora_r


class Skeleton:
    """Build it and run it under ``FakeTensorMode``: no weight is allocated, no value computed.

    Raises ``FaceConfigError`` for a face block that the host refuses.
    """

    def __init__(self, shapes: Shapes, work: Work, face: FaceConfig | None) -> None:
        self.shapes, self.work = shapes, work
        self.sequence = 0
        """LLM tokens of a sample, once ``loss`` has run."""
        self.batch: tuple[Tensor, ...] = ()
        width, hidden = shapes.vision["hidden_size"], shapes.text["hidden_size"]
        own = face is not None and face.segmentation.vision_tower is not None
        with _default_dtype(DTYPES[work.dtype]):  # fake parameters cannot be cast afterwards
            self.language = _language_model(shapes, work)
            self.tower = _tower(shapes, work)
            self.projector = nn.Sequential(*_projector(shapes.projector, width, hidden))
            self.face = branch_of(face, width, hidden) if face is not None else None
            self.face_vit = _tower(shapes, work) if own else None
            _check_fusion(shapes, self.face)
            self._set_trainable()
        for module in self.modules().values():
            module.train()

    def modules(self) -> dict[str, nn.Module]:
        """The parts by name."""
        parts: dict[str, nn.Module | None] = {TOWER: self.tower, PROJECTOR: self.projector, FACE_VIT: self.face_vit}
        if self.face is not None:
            parts[FACE] = nn.ModuleList(part for part in self.face.children() if part is not self.face.facial)
            parts[FACIAL] = self.face.facial
        return {name: part for name, part in {**parts, LANGUAGE: self.language}.items() if part is not None}

    def _set_trainable(self) -> None:
        work = self.work
        self.language.requires_grad_(work.stage == "finetune")
        self.tower.requires_grad_(work.train_tower)
        if self.face_vit is not None:
            self.face_vit.requires_grad_(False)
        if work.stage == "lora":
            for layer in self.language.model.layers:
                for block in (layer.self_attn, layer.mlp):
                    for name, child in list(block.named_children()):
                        if isinstance(child, nn.Linear):
                            setattr(block, name, LowRank(child, work.lora_rank))
        if work.checkpointing:
            # Reentrant, as transformers 4.x does it by default. The generator's state would be a tensor with values.
            how = {"use_reentrant": True, "preserve_rng_state": False}
            self.language.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
            if work.train_tower:
                self.tower.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)

    def loss(self, enter: Callable[[str], None]) -> Tensor:
        """The training loss of a batch. ``enter`` is told the name of each part as it begins."""
        work, side = self.work, int(self.shapes.vision["image_size"])
        dtype = DTYPES[work.dtype]
        enter("batch")
        images = torch.zeros(work.batch * work.visual.tiles, 3 if self.face is None else 4, side, side, dtype=dtype)
        ids = torch.zeros(work.batch, work.text, dtype=torch.int64)
        self.batch = (images, ids)  # who trains holds a batch, this one or the next, the whole step long
        enter(TOWER)
        with nullcontext() if work.train_tower else torch.no_grad():
            features = self._pooled(self._read(self.tower, images[:, :3]))
        enter(PROJECTION)
        if self.face is None:
            tokens, face_loss = self.projector(features), None
        else:
            tokens, face_loss = self._face(features, images, ids, enter)
        enter(LANGUAGE)
        visual = self._laid_out(tokens, tokens.shape[1] - features.shape[1])
        embedded = torch.cat([visual, self.language.get_input_embeddings()(ids)], dim=1)
        self.sequence = embedded.shape[1]
        del tokens, features, visual
        labels = torch.zeros(embedded.shape[:2], dtype=torch.int64)
        hook = self.language.lm_head.register_forward_pre_hook(lambda *_: enter(LOSS))
        loss = self.language(inputs_embeds=embedded, labels=labels, use_cache=False).loss
        hook.remove()
        return loss if face_loss is None else loss + face_loss

    def _read(self, tower: nn.Module, images: Tensor) -> Tensor:
        """(tiles, P, C), as the hosts read a tower: all hidden states, of which one is taken."""
        hidden = tower(images, output_hidden_states=True).hidden_states[-2]
        return hidden[:, -self.shapes.patches :]

    def _face(
        self, features: Tensor, images: Tensor, ids: Tensor, enter: Callable[[str], None]
    ) -> tuple[Tensor, Tensor | None]:
        assert self.face is not None

        @torch.no_grad()
        def read(rgb: Tensor) -> Tensor:
            return self._read(self.face_vit or self.tower, rgb.to(features.dtype))

        layers, auxiliary = Layers(list(self.projector)), Auxiliary()
        rgb = denormalise(images[:, :3], CLIP_MEAN, CLIP_STD) if self.face.reads_pixels else None
        prompt = self._prompt(ids) if self.face.reads_prompt else None
        with _announced(self.face.facial, enter):
            tokens = self.face(layers, features, images[:, 3], read, rgb, prompt, auxiliary)
        losses = [loss for loss in (self._knowledge(tokens), auxiliary.weighted()) if loss is not None]
        return tokens, torch.stack(losses).sum() if losses else None

    def _prompt(self, ids: Tensor) -> Prompt:
        """Of each tile all the text of its sample: the most that a question can be."""
        with torch.no_grad():
            text = self.language.get_input_embeddings()(ids)
        rows = torch.arange(self.work.batch).repeat_interleave(self.work.visual.tiles)
        return Prompt(text, torch.ones(ids.shape, dtype=torch.bool), rows)

    def _knowledge(self, tokens: Tensor) -> Tensor | None:
        head = self.face.knowledge if self.face is not None else None
        if head is None:
            return None
        whole = tokens.unflatten(0, (self.work.batch, self.work.visual.tiles))[:, 0]
        prompts, _ = head.prompt_tokens(tokens.device)
        with torch.no_grad():
            embedded = self.language.get_input_embeddings()(prompts)
        logits = head(whole, embedded)
        return head.weighted(head.losses(logits, torch.zeros(logits.shape, dtype=torch.int8)))

    def _pooled(self, features: Tensor) -> Tensor:
        """LLaVA-NeXT-Video's classes pool a video's frames before the projector; other features stay."""
        grid, visual = self.shapes.grid, self.work.visual
        if self.shapes.family != "llava_next_video" or visual.tokens != visual.tiles * (grid // 2) ** 2:
            return features
        image = features.transpose(1, 2).unflatten(2, (grid, grid))
        return F.avg_pool2d(image, 2).flatten(2).transpose(1, 2)

    def _laid_out(self, tokens: Tensor, added: int) -> Tensor:
        """(tiles, P', D) -> (B, V, D): what is padding left out, newline tokens put in."""
        visual = self.work.visual
        rows = tokens.reshape(self.work.batch, -1, tokens.shape[-1])
        wanted = visual.tokens + visual.tiles * added
        if wanted <= rows.shape[1]:
            return rows[:, :wanted]
        return torch.cat([rows, rows.new_zeros(len(rows), wanted - rows.shape[1], rows.shape[2])], dim=1)


@contextmanager
def _announced(facial: nn.Module | None, enter: Callable[[str], None]) -> Iterator[None]:
    """Has ``enter`` told when the facial encoder begins, and when it is through."""
    if facial is None:
        yield
        return
    handles = [
        facial.register_forward_pre_hook(lambda *_: enter(FACIAL)),
        facial.register_forward_hook(lambda *_: enter(PROJECTION)),
    ]
    yield
    for handle in handles:
        handle.remove()


def without_initial_values() -> AbstractContextManager[None]:
    """No random numbers for weights that are not there: some of transformers' initialisers look at values."""
    try:
        from transformers.initialization import no_init_weights  # 5.x
    except ImportError:
        from transformers.modeling_utils import no_init_weights
    return no_init_weights()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _language_model(shapes: Shapes, work: Work) -> Any:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    keys = dict(shapes.text)
    config = CONFIG_MAPPING[keys.pop("model_type")](**keys)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=work.attention)
    model.tie_weights()  # which transformers leaves out together with initial values
    return model


def _tower(shapes: Shapes, work: Work) -> Any:
    from transformers import CONFIG_MAPPING, CLIPVisionModel, SiglipVisionModel

    keys = dict(shapes.vision)
    kind = keys.pop("model_type")
    classes: dict[str, Any] = {"clip_vision_model": CLIPVisionModel, "siglip_vision_model": SiglipVisionModel}
    if kind not in classes:
        raise FaceConfigError(f"{shapes.name}: vision towers of type {kind!r} are not planned: CLIP and SigLIP are")
    return classes[kind]._from_config(CONFIG_MAPPING[kind](**keys), attn_implementation=work.attention)


def _projector(kind: str, width: int, hidden: int) -> list[nn.Module]:
    """LLaVA's ``linear`` and ``mlpNx_gelu``."""
    if kind == "linear":
        return [nn.Linear(width, hidden)]
    depth = kind.removeprefix("mlp").removesuffix("x_gelu")
    if not depth.isdigit():
        raise FaceConfigError(f"mm_projector_type {kind!r} is not planned: linear and mlpNx_gelu are")
    more = [layer for _ in range(int(depth) - 1) for layer in (nn.GELU(), nn.Linear(hidden, hidden))]
    return [nn.Linear(width, hidden), *more]


def _check_fusion(shapes: Shapes, face: FaceBranch | None) -> None:
    if face is not None and face.fusion.adds_tokens and shapes.host not in PACKAGES and shapes.family != "llava":
        raise FaceConfigError(
            f"face.fusion.type {face.config.fusion.type!r} adds tokens, which {shapes.host} cannot take: use gated_add "
            "or channel"
        )
