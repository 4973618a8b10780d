"""``FaceConfig``: the ``face`` block of a model directory's ``config.json``, typed, validated and versioned.

The block is complete: everything the branch is built from (vocabulary, prompt token ids, graph, rules) is
written into it by ``llava-face enable``, so that a saved checkpoint needs no other file to rebuild itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import FaceConfigError
from .explain import explain
from .facial_config import FacialConfig, VitConfig
from .parser_config import ParserConfig
from .registry import unknown_name
from .rulebook import Joint, Kind, Rule

KEY = "face"
VERSION: Literal[1] = 1

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SegmentationConfig(_Block):
    """How the label map becomes tokens. Defaults are ours; the paper's readable part gives none of them."""

    encoder: str | None = "part-embedding"
    """null: label maps are not read."""
    width: int = Field(default=256, ge=1)
    """part-embedding: channels of the mixer; vit-palette: hidden width of its MLP."""
    cells: int = Field(default=2, ge=1, le=8)
    """part-embedding: each patch is split into cells x cells histograms."""
    vision_tower: str | None = None
    """vit-palette: directory or hub name of its own frozen ViT; null shares the image tower's weights."""
    vision_select_layer: int = -2
    """vit-palette with an own ViT: the hidden layer that is read, as LLaVA's ``mm_vision_select_layer``."""
    vision_width: int | None = Field(default=None, ge=1)
    """vit-palette with an own ViT: its hidden width; written by ``llava-face enable``."""
    maps: str | None = None
    """Training: a map store (``llava-face segment``) or folder of maps, read by the image's path where a sample
    names no ``face_map``."""
    parser: ParserConfig | None = None
    """Where a map comes from when data and store bring none: it is asked about the pixels (inference)."""
    bad_map: Literal["error", "no-map"] = "error"
    """A named map that is missing or broken: stop with an error, or count it and train without a map."""

    @model_validator(mode="after")
    def _possible(self) -> SegmentationConfig:
        if self.vision_tower is not None and self.encoder != "vit-palette":
            raise ValueError(f"vision_tower is for encoder 'vit-palette', not {self.encoder!r}")
        if self.encoder is None and (self.maps is not None or self.parser is not None):
            raise ValueError("maps and parser are for an encoder that reads them, and encoder is null")
        return self


class FusionConfig(_Block):
    """How face features join the projected image tokens. Every default is ours."""

    type: str = "gated_add"
    pool: Literal[1, 2] = 1
    """append: 2 pools the face tokens 2x2, so that a quarter as many are added."""
    experts: int = Field(default=4, ge=1, le=64)
    top_k: int = Field(default=2, ge=1)
    """moe: how many experts each patch goes to."""
    hidden: int = Field(default=1024, ge=1)
    """moe, soft-gate: hidden width of an expert."""
    general: bool = True
    """moe: whether the experts see the tower's general features, too."""
    dispatch: Literal["dense", "grouped"] = "dense"
    """moe: every expert sees every patch, or only the patches that chose it. Equal results."""
    balance_weight: float = Field(default=0.01, ge=0.0)
    """moe: factor of the load-balancing loss (Switch Transformers use 0.01)."""
    balance_over: Literal["batch", "image"] = "image"
    """moe: over which patches the load is balanced."""
    z_weight: float = Field(default=0.0, ge=0.0)
    """moe: factor of the router z-loss (ST-MoE uses 0.001)."""
    width: int = Field(default=512, ge=1)
    """soft-gate: of the scores; text-query: of everything between features and LLM."""
    heads: int = Field(default=8, ge=1)
    queries: int = Field(default=16, ge=1)
    """text-query: learned queries of each Q-Former, and tokens of the neutral prompt."""
    layers: int = Field(default=2, ge=1, le=12)
    """text-query: of each Q-Former."""

    @model_validator(mode="after")
    def _possible(self) -> FusionConfig:
        for key, types in _FUSION_KEYS.items():
            if getattr(self, key) != FusionConfig.model_fields[key].default and self.type not in types:
                raise ValueError(f"{key} is for fusion {' or '.join(map(repr, types))}, not {self.type!r}")
        if self.top_k > self.experts:
            raise ValueError(f"top_k {self.top_k} is more than there are experts, {self.experts}")
        if self.width % self.heads and self.type == "text-query":
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


_FUSION_KEYS: dict[str, tuple[str, ...]] = {
    "pool": ("append",),
    **dict.fromkeys(
        ("experts", "top_k", "general", "dispatch", "balance_weight", "balance_over", "z_weight"), ("moe",)
    ),
    "hidden": ("moe", "soft-gate"),
    "width": ("soft-gate", "text-query"),
    **dict.fromkeys(("heads", "queries", "layers"), ("text-query",)),
}


class AttributeConfig(_Block):
    """One facial characteristic y_i with its text prompt."""

    name: str
    prompt: str
    tokens: list[int] = Field(min_length=1)
    """Token ids of the prompt in the model's own tokenizer, without special tokens."""
    prior: Unit = 0.5
    """Share of positives in the training labels: where the attribute's bias starts."""


class RuleConfig(_Block):
    """One logical rule, as ``rulebook.Rule.to_dict`` writes it."""

    kind: Kind
    if_: list[str] | dict[Joint, list[str]] = Field(default_factory=list, alias="if")
    then: list[str] | dict[Joint, list[str]] = Field(default_factory=list)
    of: list[str] = Field(default_factory=list)
    group: str = ""
    weight: Unit = 1.0
    source: str = ""
    description: str = ""

    @model_validator(mode="after")
    def _possible(self) -> RuleConfig:
        _ = self.rule
        return self

    @property
    def rule(self) -> Rule:
        """The rule itself. Raises ``FaceDataError`` for parts that do not make one."""
        return Rule.from_dict(self.model_dump(by_alias=True))


class KnowledgeConfig(_Block):
    """Knowledge alignment (FaceInsight): correlation module, logical module, and their losses."""

    file: str
    """The knowledge file the rest was taken from (a record: it is not read again)."""
    sha256: str = ""
    attributes: list[AttributeConfig] = Field(min_length=2)
    graph: dict[str, dict[str, Unit]] = Field(default_factory=dict)
    """Kept co-occurrences: ``graph[i][j] = p_ij >= tau`` (knowledge/graph.py)."""
    rules: list[RuleConfig] = Field(default_factory=list)
    without: list[str] = Field(default_factory=list)
    """Rule groups left out, for example ``["gender"]``."""
    tau: Unit = 0.4
    omega: Unit = 0.2
    binarize: bool = True
    normalisation: Literal["row", "column", "symmetric", "ml-gcn"] = "row"
    """How the graph's edges are weighed against the diagonal (knowledge/graph.py ``reweight``)."""
    layers: int = Field(default=2, ge=1, le=8)
    hidden: int = Field(default=512, ge=1)
    temperature: float = Field(default=0.07, gt=0.0)
    bce_weight: float = Field(default=1.0, ge=0.0)
    logic_weight: float = Field(default=1.0, ge=0.0)

    @model_validator(mode="after")
    def _consistent(self) -> KnowledgeConfig:
        names = [a.name for a in self.attributes]
        if len(set(names)) != len(names):
            raise ValueError("attributes are not unique")
        used = [(f"graph.{i}", name) for i, row in self.graph.items() for name in (i, *row)]
        used += [(f"rules.{n}", name) for n, rule in enumerate(self.rules) for name in rule.rule.attributes()]
        for place, name in used:
            if name not in names:
                raise ValueError(f"{place}: {unknown_name('attribute', name, names)}")
        for i, row in self.graph.items():
            if i in row:
                raise ValueError(f"graph.{i}: an attribute cannot be its own neighbour")
        if self.normalisation == "ml-gcn" and self.omega == 1.0:
            raise ValueError("normalisation 'ml-gcn' weighs by omega / (1 - omega): omega must be below 1")
        for n, rule in enumerate(self.rules):
            if rule.group and rule.group in self.without:
                raise ValueError(f"rules.{n}: its group {rule.group!r} is one that 'without' leaves out")
        return self

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.attributes)


class FaceConfig(_Block):
    """The whole ``face`` block. Build one with ``FaceConfig.parse`` or read one with ``FaceConfig.of``."""

    enabled: bool = True
    version: Literal[1] = VERSION
    preset: str = "light"
    segmentation: SegmentationConfig = SegmentationConfig()
    facial: FacialConfig | None = None
    fusion: FusionConfig = FusionConfig()
    knowledge: KnowledgeConfig | None = None

    @field_validator("preset")
    @classmethod
    def _known(cls, preset: str) -> str:
        if preset not in PRESETS:
            raise ValueError(unknown_name("preset", preset, PRESETS))
        return preset

    @model_validator(mode="after")
    def _complete(self) -> FaceConfig:
        if self.preset == "faceinsight" and self.knowledge is None:
            raise ValueError(
                "preset 'faceinsight' needs its knowledge block; `llava-face enable MODEL_DIR --preset "
                "faceinsight --knowledge FILE` writes it"
            )
        # An MoE over the general features alone is kept as the control of an ablation.
        reads = self.segmentation.encoder or self.facial or (self.fusion.type == "moe" and self.fusion.general)
        if not reads:
            raise ValueError("without segmentation.encoder and facial there is nothing of a face to read")
        return self

    @classmethod
    def parse(cls, block: Any, where: str = "config.json") -> FaceConfig:
        """Validates a ``face`` block over its preset's defaults.

        Raises ``FaceConfigError`` naming every wrong key by its path, and the file ``where`` it stands.
        """
        if not isinstance(block, Mapping):
            raise FaceConfigError(f'{where}: {KEY} must be an object such as {{"enabled": true}}, not {block!r}')
        preset = block.get("preset", "light")
        defaults = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        try:
            return cls.model_validate(merged(defaults, block))
        except ValidationError as error:
            raise FaceConfigError(explain(error, where, KEY, _BLOCKS)) from None

    @classmethod
    def of(cls, config: Any, where: str = "") -> FaceConfig | None:
        """The face block of a host's config object or dict; None where face mode is absent or switched off.

        Raises ``FaceConfigError`` for a block that is there and wrong.
        """
        block = config.get(KEY) if isinstance(config, Mapping) else getattr(config, KEY, None)
        if block is None or block is False or (isinstance(block, Mapping) and block.get("enabled") is False):
            return None
        place = where or getattr(config, "_name_or_path", "") or "config.json"
        return cls.parse(block, place)

    def to_dict(self) -> dict[str, Any]:
        """The block as it is written to ``config.json``."""
        return self.model_dump(mode="json", by_alias=True)


PRESETS: dict[str, dict[str, Any]] = {
    # Our default for cost: no second ViT, no extra LLM token.
    "light": {"segmentation": {"encoder": "part-embedding"}, "fusion": {"type": "gated_add"}},
    # The paper's parts: a pre-trained ViT reads the map, correlation and logic align the knowledge. How the
    # two token sequences join is not in the readable part; gated_add is our default, append the literal form.
    "faceinsight": {"segmentation": {"encoder": "vit-palette"}, "fusion": {"type": "gated_add"}},
    # FaVChat v2: a facial encoder's granularities and an MoE adapter. Which encoder, which experts: our defaults.
    "favchat": {"segmentation": {"encoder": None}, "facial": {"encoder": "farl"}, "fusion": {"type": "moe"}},
    # FaVChat v3 to v6: the three prompt-query levels of the authors' figure and code.
    "favchat-v6": {
        "segmentation": {"encoder": None},
        "facial": {"encoder": "farl"},
        "fusion": {"type": "text-query"},
    },
}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top, objects key by key."""
    out = deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merged(out[key], value)
        else:
            out[key] = deepcopy(value)
    return out


_BLOCKS: dict[str, type[BaseModel]] = {
    "": FaceConfig,
    "segmentation": SegmentationConfig,
    "segmentation.parser": ParserConfig,
    "facial": FacialConfig,
    "facial.vit": VitConfig,
    "fusion": FusionConfig,
    "knowledge": KnowledgeConfig,
    "knowledge.attributes": AttributeConfig,
    "knowledge.rules": RuleConfig,
}
