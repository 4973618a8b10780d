"""The shims of hosts/compat: their decisions, their undoing, and upstream's trainer really mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts import compat
from llava_face_plugin.hosts.compat import cpu
from llava_face_plugin.hosts.compat.shim import release_of
from llava_face_plugin.hosts.compat.trainer import cast_fp32_parameters, renamed_flags
from llava_face_plugin.hosts.patching import Patches

EXPECTED = {
    "4.37": {"groups", "z3int", "dscast"},
    "4.57": {"fwdkw", "lnlayers", "argv", "sampler", "savecp", "groups", "dscast"},
    "5.23": {"v5dtype", "lnlayers", "argv", "sampler", "savecp", "procclass", "dscast"},
}

DEEPSPEED_ONLY = {"groups", "z3int", "dscast"}


def test_flags_get_their_new_names_only_where_the_old_ones_are_gone() -> None:
    known = {"--eval_strategy", "--warmup_steps", "--warmup_ratio"}
    argv = ["--evaluation_strategy", "no", "--warmup_ratio=0.03", "--bf16", "True"]
    assert renamed_flags(argv, known) == ["--eval_strategy", "no", "--warmup_ratio=0.03", "--bf16", "True"]
    assert renamed_flags(argv, known - {"--warmup_ratio"})[2] == "--warmup_steps=0.03"
    assert renamed_flags(argv, {"--evaluation_strategy"}) == argv


def test_a_flag_given_under_both_names_is_left_for_the_parser_to_refuse() -> None:
    argv = ["--warmup_ratio", "0.03", "--warmup_steps", "5"]
    assert renamed_flags(argv, {"--warmup_steps"}) == argv


class _Base:
    @classmethod
    def make(cls) -> str:
        return "base"


class _Child(_Base):
    def size(self) -> int:
        return 1


def test_undo_restores_own_and_inherited_attributes() -> None:
    patches, own = Patches(), vars(_Child)["size"]
    patches.set(_Child, "size", lambda self: 2)
    patches.set(_Child, "size", lambda self: 3)
    patches.set(_Child, "make", classmethod(lambda cls: "patched"))
    assert (_Child().size(), _Child.make()) == (3, "patched")
    patches.undo()
    assert vars(_Child)["size"] is own
    assert "make" not in vars(_Child)


def test_undo_refuses_to_drop_a_later_wrapper() -> None:
    patches, own = Patches(), vars(_Child)["size"]
    patches.set(_Child, "size", lambda self: 2)
    ours = vars(_Child)["size"]
    _Child.size = lambda self: 9  # type: ignore[method-assign]
    with pytest.raises(FaceHostError, match=r"_Child\.size"):
        patches.undo()
    _Child.size = ours  # type: ignore[method-assign]
    patches.undo()
    assert vars(_Child)["size"] is own


def _model() -> torch.nn.Module:
    model = torch.nn.ModuleDict({"sixteen": torch.nn.Linear(2, 2).half(), "thirty_two": torch.nn.Linear(2, 2)})
    model["thirty_two"].bias.ds_id = 0
    return model


@pytest.mark.parametrize(
    ("deepspeed", "bf16", "fp16", "expected"),
    [
        ("z.json", True, False, torch.bfloat16),
        ("z.json", False, True, torch.float16),
        ("z.json", False, False, torch.float32),
        (None, True, False, torch.float32),
    ],
)
def test_cast_touches_only_float32_of_half_deepspeed_runs(
    deepspeed: str | None, bf16: bool, fp16: bool, expected: torch.dtype
) -> None:
    model = _model()
    weight = model["thirty_two"].weight
    count = cast_fp32_parameters(model, SimpleNamespace(deepspeed=deepspeed, bf16=bf16, fp16=fp16))
    assert model["thirty_two"].weight is weight, "the optimizer must see the same parameter"
    assert weight.dtype == expected and count == (expected != torch.float32)
    assert model["sixteen"].weight.dtype == torch.float16
    assert model["thirty_two"].bias.dtype == torch.float32, "a partitioned parameter is deepspeed's"


def test_shims_are_described_and_unique() -> None:
    keys = [shim.key for shim in compat.SHIMS]
    assert len(keys) == len(set(keys)) == 10
    for shim in compat.SHIMS:
        assert shim.where and shim.breaks_on and shim.symptom and shim.mend.__doc__, shim.key


def test_series_is_read_without_importing_transformers() -> None:
    code = (
        "import sys; from llava_face_plugin.hosts import compat; compat.is_supported()\n"
        "from llava_face_plugin.hosts.compat import cpu; assert cpu.install_cpu_dry_run()\n"
        "assert 'transformers' not in sys.modules and 'torch' not in sys.modules"
    )
    _python(code, LLAVA_FACE_CPU_DRY_RUN="1")
    assert compat.transformers_series() == ".".join(map(str, release_of("transformers")[:2]))


def test_dry_run_is_off_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cpu.CPU_SWITCH, raising=False)
    assert cpu.install_cpu_dry_run() is False


def _python(code: str, **variables: str) -> str:
    """Runs code in a fresh Python with the import hook off."""
    env = {**os.environ, "LLAVA_FACE": "0", "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


_UPSTREAM = """
import inspect, json, sys
from llava_face_plugin.hosts import compat
import llava
from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM as Model
forward, before = inspect.signature(Model.forward), dict(vars(Model))
compat.apply("models")
assert "llava.train.llava_trainer" not in sys.modules
compat.apply("before_trainer")
assert "llava.train.llava_trainer" not in sys.modules
from llava.train import llava_trainer
from transformers.models.llama.modeling_llama import LlamaRMSNorm
assert LlamaRMSNorm in llava_trainer.ALL_LAYERNORM_LAYERS
Trainer, plain = llava_trainer.LLaVATrainer, dict(vars(llava_trainer.LLaVATrainer))
compat.apply("trainer")
assert compat.apply("trainer") == [], "applied twice"
assert inspect.signature(Model.forward) == forward

class Run:  # what LLaVATrainer needs of a stage-2 run, without one
    args = type("Args", (), {"group_by_modality_length": False})
bare = object.__new__(Trainer)
bare.args, bare.train_dataset = Run.args, None
if "sampler" in compat.applied():
    assert bare._get_train_sampler(None) is None
saved = []
import transformers
if "savecp" in compat.applied():
    original = transformers.Trainer._save_checkpoint
    transformers.Trainer._save_checkpoint = lambda self, model, trial: saved.append((model, trial))
    bare._save_checkpoint("model", None)
    transformers.Trainer._save_checkpoint = original
    assert saved == [("model", None)]
applied = compat.applied()
compat.undo()
assert dict(vars(Trainer)) == plain and dict(vars(Model)) == before and compat.applied() == ()
print(json.dumps(applied))
"""


@pytest.mark.contract
def test_upstream_gets_exactly_the_shims_of_its_series() -> None:
    pytest.importorskip("llava")
    series = compat.transformers_series()
    if series not in compat.SUPPORTED_SERIES:
        pytest.skip(f"transformers {series} is not a supported series")
    applied = set(json.loads(_python(_UPSTREAM).splitlines()[-1]))
    expected = EXPECTED[series] if release_of("deepspeed") else EXPECTED[series] - DEEPSPEED_ONLY
    assert applied == expected


_DRY = """
import torch
from llava_face_plugin.hosts.compat import cpu
assert cpu.install_cpu_dry_run() and cpu.install_cpu_dry_run()
if not torch.cuda.is_available():
    assert cpu.cpu_applied() == ("sync", "cuda2cpu", "pgexit")
    torch.cuda.synchronize()
    assert torch.nn.Linear(2, 2).cuda().weight.device.type == "cpu"
    assert torch.ones(2).to("cuda:0", torch.float16).dtype == torch.float16
    assert torch.ones(2).to(dtype=torch.float16, device=torch.device("cuda")).device.type == "cpu"
    original = torch.Tensor.cuda
    cpu.undo_cpu_dry_run()
    assert torch.Tensor.cuda is not original
"""


def test_dry_run_keeps_cuda_calls_on_the_cpu() -> None:
    _python(_DRY, LLAVA_FACE_CPU_DRY_RUN="1")
