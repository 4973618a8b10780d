"""Makes the face classes known to transformers' Auto classes and, on 5.x, to its conversion of checkpoints."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

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
)


def register() -> None:
    """May be called again."""
    for configuration, backbone, head, processor in FAMILIES:
        AutoConfig.register(configuration.model_type, configuration, exist_ok=True)
        AutoModel.register(configuration, backbone, exist_ok=True)
        AutoModelForImageTextToText.register(configuration, head, exist_ok=True)
        AutoProcessor.register(configuration, processor, exist_ok=True)
        _register_conversion(configuration.model_type)


def _register_conversion(model_type: str) -> None:
    # 5.x renames the weights of older checkpoints by a table, and classes from outside get no renaming unless they are
    # in it: the language model would be left random.
    try:
        from transformers.conversion_mapping import (
            get_checkpoint_conversion_mapping,
            register_checkpoint_conversion_mapping,
        )
    except ImportError:  # 4.x keeps the table on the classes
        return
    plain = get_checkpoint_conversion_mapping(model_type.removeprefix("face_"))
    register_checkpoint_conversion_mapping(model_type, plain, overwrite=True)
