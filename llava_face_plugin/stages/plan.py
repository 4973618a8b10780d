"""Stage files: YAML that says, for each stage, which data, which parts are trained, and at which rates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import FaceConfigError
from ..explain import explain
from ..registry import unknown_name

PartName = Literal["tower", "facial", "fusion", "projector", "llm", "lora"]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
_FOLDER = Path(__file__).parent


def _some(found: tuple[Any, ...]) -> tuple[Any, ...]:
    if not found:
        raise ValueError("expected at least one")
    return found


_NotEmpty = AfterValidator(_some)
"""Not ``min_length``: pydantic counts the valid items only, and would call a list with one wrong item empty."""


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Stage(_Block):
    """One stage. ``source`` says where each figure is from, and what is our default."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    about: str
    data: str
    """File that ``prepare`` writes, as ``--data_path`` names it."""
    prepare: str
    """The command that writes it; ``--root`` and ``--out`` are the user's."""
    trainable: Annotated[tuple[PartName, ...], _NotEmpty]
    """All other parts are frozen."""
    learning_rate: Rate
    projector_learning_rate: Rate | None = None
    """Of projector and face branch, where it differs (``--mm_projector_lr``)."""
    tower_learning_rate: Rate | None = None
    epochs: float = Field(default=1.0, gt=0.0)
    lora_rank: int = Field(default=128, ge=1)
    lora_alpha: int = Field(default=256, ge=1)
    source: str

    @model_validator(mode="after")
    def _possible(self) -> Stage:
        if len(set(self.trainable)) < len(self.trainable):
            raise ValueError(f"trainable names a part twice: {', '.join(self.trainable)}")
        if {"llm", "lora"} <= set(self.trainable):
            raise ValueError("trainable has both llm and lora: LoRA is in place of training the language model")
        return self


class StageFile(_Block):
    """Stages in the order in which they are trained."""

    name: str
    description: str
    stages: Annotated[tuple[Stage, ...], _NotEmpty]

    @model_validator(mode="after")
    def _distinct(self) -> StageFile:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages of one name: {', '.join(names)}")
        return self

    def stage(self, name: str) -> Stage:
        """The stage of that name. Raises ``FaceConfigError`` if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise FaceConfigError(unknown_name("stage", name, [stage.name for stage in self.stages]))

    def before(self, name: str) -> Stage | None:
        """The stage before that one; None for the first."""
        place = self.stages.index(self.stage(name))
        return self.stages[place - 1] if place else None


def shipped() -> tuple[str, ...]:
    """Names of the stage files in the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def full_name(source: str | Path) -> str:
    """``source`` of ``load_stages`` as any folder understands it: a shipped name, or an absolute path."""
    return str(source) if str(source) in shipped() else str(Path(source).absolute())


def stage_of(text: str) -> Stage:
    """The stage that ``FILE:STAGE`` names (``favchat:qa``).

    Raises ``FaceConfigError`` for another form, an unknown or wrong file, or an unknown stage.
    """
    file, colon, name = text.rpartition(":")
    if colon:
        return load_stages(file).stage(name)
    known = text if text in shipped() or Path(text).is_file() else "favchat"
    names = ", ".join(stage.name for stage in load_stages(known).stages)
    raise FaceConfigError(f"--stage {text}: expected FILE:STAGE; the stages of {known}: {names}")


def load_stages(source: str | Path) -> StageFile:
    """A stage file by the name of a shipped one (``favchat``) or by path.

    Raises ``FaceConfigError`` naming the file, and each wrong key by its place.
    """
    path = _FOLDER / f"{source}.yaml" if str(source) in shipped() else Path(source)
    if not path.is_file():
        raise FaceConfigError(
            f"stages {source}: no such file, and {unknown_name('stage file', str(source), shipped())}"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FaceConfigError(f"stages {path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise FaceConfigError(f"stages {path}: expected name, description and stages, got {type(content).__name__}")
    try:
        return StageFile.model_validate(content)
    except ValidationError as error:
        raise FaceConfigError(explain(error, str(path), "stages", {"": StageFile, "stages": Stage})) from None
