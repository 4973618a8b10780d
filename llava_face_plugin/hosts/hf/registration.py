"""Makes the face classes known to transformers' Auto classes and, on 5.x, to its conversion of checkpoints."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from ...guard import CLASS_MARK, TYPE_MARK
from . import config, model, processing

FAMILIES = (
    (
        config.FaceLlavaConfig,
        model.FaceLlavaModel,
        model.FaceLlavaForConditionalGeneration,
        processing.FaceLlavaProcessor,
    ),
    (
        config.FaceLlavaNextConfig,
        model.FaceLlavaNextModel,
        model.FaceLlavaNextForConditionalGeneration,
        processing.FaceLlavaNextProcessor,
    ),
    (
        config.FaceLlavaOnevisionConfig,
        model.FaceLlavaOnevisionModel,
        model.FaceLlavaOnevisionForConditionalGeneration,
        processing.FaceLlavaOnevisionProcessor,
    ),
    (
        config.FaceLlavaNextVideoConfig,
        model.FaceLlavaNextVideoModel,
        model.FaceLlavaNextVideoForConditionalGeneration,
        processing.FaceLlavaNextVideoProcessor,
    ),
)


def register() -> None:
    """May be called again."""
    for configuration, backbone, head, processor in FAMILIES:
        AutoConfig.register(configuration.model_type, configuration, exist_ok=True)
        AutoModel.register(configuration, backbone, exist_ok=True)
        AutoModelForImageTextToText.register(configuration, head, exist_ok=True)
        AutoProcessor.register(configuration, processor, exist_ok=True)
        _register_conversion(configuration.model_type, backbone.__name__, head.__name__)


def _register_conversion(*names: str) -> None:
    """Whatever upstream has under the plain name of a model type or class, under ours too."""
    # 5.x renames the weights of older checkpoints by a table, and classes from outside get no renaming unless they are
    # in it: the language model would be left random.
    try:
        from transformers.conversion_mapping import (
            get_checkpoint_conversion_mapping,
            register_checkpoint_conversion_mapping,
        )
    except ImportError:  # 4.x keeps the table on the classes
        return
    for name in names:
        plain = get_checkpoint_conversion_mapping(name.removeprefix(TYPE_MARK).removeprefix(CLASS_MARK))
        if plain is not None:
            register_checkpoint_conversion_mapping(name, plain, overwrite=True)
