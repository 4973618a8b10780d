"""``FacialConfig``: the facial encoder that reads the pixels. The block ``face.facial``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of RGB in [0, 1]; OpenAI's CLIP, and FaRL after it."""

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
Rgb = Annotated[list[float], Field(min_length=3, max_length=3)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class VitConfig(_Block):
    """Shape of a vision transformer. The defaults are those of ViT-B/16 as CLIP and FaRL have it."""

    width: int = Field(default=768, ge=1)
    depth: int = Field(default=12, ge=1)
    """Blocks of the checkpoint; those behind the last tap are not built."""
    heads: int = Field(default=12, ge=1)
    hidden: int = Field(default=3072, ge=1)
    """Width between the two layers of a block's MLP."""
    patch: int = Field(default=16, ge=1)
    """Side of a patch in pixels."""
    activation: Activation = "quick_gelu"
    eps: float = Field(default=1e-5, gt=0.0)
    """Of the layer norms."""
    class_token: bool = True
    registers: int = Field(default=0, ge=0)
    """Register tokens, as DINOv2 has them."""
    patch_bias: bool = False
    first_norm: bool = True
    """A layer norm in front of the first block, as CLIP has it."""
    layer_scale: bool = False
    """A learned factor on each residual, as DINOv2 has it."""

    @model_validator(mode="after")
    def _possible(self) -> VitConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class FacialConfig(_Block):
    """Which encoder, of what weights, and which of its blocks are read.

    FaVChat (arXiv 2503.09158 v2) has a dedicated facial encoder and takes features of several granularities from it.
    Its name, blocks and resolution are not in the readable part: FaRL ViT-B/16 and its own default blocks 3, 5, 7, 11
    (FacePerceiver/FaRL, ``output_indices``) are our defaults.
    """

    encoder: str = "farl"
    """How the weights are stored: ``farl``, a file in the format of FaRL and CLIP; ``transformers``, a directory."""
    path: str | None = None
    """The file or directory. Needed, except by an encoder that is trained from scratch."""
    trained: bool = False
    """Train it and save it with the branch; ``path`` is then only where it starts. Default: frozen, always read from
    ``path``."""
    taps: list[int] = Field(default=[3, 5, 7, 11], min_length=1)
    """Blocks whose outputs are read, counted from 0."""
    size: int = Field(default=224, ge=1)
    """Side in pixels of what the encoder is shown; position embeddings are resized to it."""
    width: int = Field(default=1024, ge=1)
    """Hidden width of the MLP that makes face tokens of the taps, for fusions that do not read the taps themselves."""
    mean: Rgb = Field(default=list(CLIP_MEAN))
    std: Rgb = Field(default=list(CLIP_STD))
    """The encoder's own normalisation of RGB in [0, 1]."""
    vit: VitConfig = VitConfig()
    """Its shape; written by ``llava-face enable``."""

    @model_validator(mode="after")
    def _possible(self) -> FacialConfig:
        if self.path is None and not self.trained:
            raise ValueError("a frozen facial encoder needs path, its weights (docs/method.md says where FaRL's are)")
        if any(b <= a for a, b in zip(self.taps, self.taps[1:], strict=False)) or self.taps[0] < 0:
            raise ValueError(f"taps must be block numbers in rising order, not {self.taps}")
        if self.taps[-1] >= self.vit.depth:
            raise ValueError(f"tap {self.taps[-1]} is behind the last block, {self.vit.depth - 1}")
        if self.size % self.vit.patch:
            raise ValueError(f"size {self.size} is no multiple of the patch, {self.vit.patch} pixels")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {self.std}")
        return self

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.size // self.vit.patch
