"""Hosts that are not the ones this was written for: one clear error, and no change to them."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts import compat, llava_v1, loader
from llava_face_plugin.switch import enable

from . import upstream

pytestmark = pytest.mark.contract


@pytest.fixture
def face_checkpoint(checkpoint: Path, root: Path) -> Path:
    out = root / "llava-refused"
    if not out.exists():
        enable(checkpoint, out=out)
    return out


def load(path: Path) -> Any:
    from llava.model import LlavaLlamaForCausalLM

    return LlavaLlamaForCausalLM.from_pretrained(str(path))


def test_an_untried_transformers_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, face_checkpoint: Path, checkpoint: Path
) -> None:
    monkeypatch.setattr(compat, "transformers_series", lambda: "4.45")
    with pytest.raises(FaceHostError, match=r"supports transformers 4\.37\.x, 4\.57\.x, 5\.23\.x; this is "):
        load(face_checkpoint)
    assert type(load(checkpoint)).__name__ == "LlavaLlamaForCausalLM"  # the flag is off: none of our business


@pytest.mark.parametrize(("extra", "message"), [("modalities", "takes .*modalities"), ("tiles", "takes .*tiles")])
def test_another_llava_is_refused(
    monkeypatch: pytest.MonkeyPatch, face_checkpoint: Path, extra: str, message: str
) -> None:
    from llava.model.llava_arch import LlavaMetaForCausalLM

    plain = LlavaMetaForCausalLM.prepare_inputs_labels_for_multimodal
    signature = inspect.signature(plain)

    def other(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    parameter = inspect.Parameter(extra, inspect.Parameter.KEYWORD_ONLY, default=None)
    other.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), parameter]
    )
    monkeypatch.setattr(LlavaMetaForCausalLM, "prepare_inputs_labels_for_multimodal", other)
    with pytest.raises(FaceHostError, match=r"llava-torch==1\.2\.2\.post1.*" + message):
        load(face_checkpoint)


def test_some_other_package_named_llava_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llava", ModuleType("llava"))
    loader._on_llava()  # raises nothing, and imports nothing of it


def test_deactivate_leaves_upstream_as_it_was(root: Path) -> None:
    code = (
        "import llava\n"
        "from llava.model import LlavaLlamaForCausalLM as M\n"
        "import llava.train.llava_trainer as t, llava.model.llava_arch as a\n"
        "before = (vars(M).get('from_pretrained'), dict(vars(t.LLaVATrainer)), a.build_vision_projector)\n"
        "from llava_face_plugin.hosts import llava_v1, loader\n"
        "assert loader.way() == ''\n"
        "loader.activate(); llava_v1.activate()\n"
        "during = (vars(M).get('from_pretrained'), dict(vars(t.LLaVATrainer)), a.build_vision_projector)\n"
        "assert all(x != y for x, y in zip(before, during)), 'nothing was patched'\n"
        "loader.deactivate()\n"
        "after = (vars(M).get('from_pretrained'), dict(vars(t.LLaVATrainer)), a.build_vision_projector)\n"
        "assert before == after\n"
        "loader.activate()\n"
        "assert vars(M).get('from_pretrained') != before[0]\n"
    )
    # The .pth hook is undone first, so that `before` is upstream; the shims that let it import stay.
    start = (
        "from llava_face_plugin.hosts import loader, compat, imports\n"
        "loader.deactivate()\n"
        "imports.when_imported('llava.train.llava_trainer', before=lambda: compat.apply('before_trainer'))\n"
    )
    result = upstream.run([upstream.python(), "-c", start + code], root, LLAVA_FACE_CPU_DRY_RUN=None)
    assert result.returncode == 0, result.stderr[-2000:]


def test_the_gate_is_put_on_once() -> None:
    from llava.model import LlavaLlamaForCausalLM

    before = LlavaLlamaForCausalLM.from_pretrained.__func__
    llava_v1.install_gate()
    loader.activate()
    assert LlavaLlamaForCausalLM.from_pretrained.__func__ is before
