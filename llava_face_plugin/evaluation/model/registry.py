"""What lmms-eval's entry point group ``lmms_eval.models`` loads."""

from __future__ import annotations

from typing import Any


def manifests() -> list[Any]:
    """lmms-eval's ``ModelManifest`` of ``face_llava``. Called while ``lmms_eval.models`` initialises."""
    from lmms_eval.models.registry_v2 import ModelManifest

    module = "llava_face_plugin.evaluation.model.face_llava"
    return [
        ModelManifest(
            model_id="face_llava",
            simple_class_path=f"{module}.FaceLlava",
            chat_class_path=f"{module}.FaceLlavaChat",
        )
    ]
