"""Stage files: what they may say, what they become on each host, and whether the hosts then do it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.stages import Stage, StageFile, load_stages, part_of
from llava_face_plugin.stages.command import command
from llava_face_plugin.stages.count import count
from llava_face_plugin.stages.hosts import apply, flags, patterns
from llava_face_plugin.stages.parts import in_stage
from llava_face_plugin.stages.plan import shipped, stage_of
from llava_face_plugin.switch import enable

SHAPE = {"width": 32, "depth": 4, "heads": 4, "hidden": 64, "patch": 14}
FACIAL: dict[str, Any] = {"facial": {"path": None, "trained": True, "taps": [0, 1, 3], "size": 56, "vit": SHAPE}}


def stage(*trainable: str, name: str = "one", **more: Any) -> Stage:
    return Stage(name=name, about="", data="a.json", prepare="p", trainable=trainable, source="ours",
                 **{"learning_rate": 1e-3} | more)  # type: ignore[arg-type]  # fmt: skip


def plan(*stages: Stage) -> StageFile:
    return StageFile(name="mine", description="", stages=stages)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.vision_tower.vision_tower.vision_model.post_layernorm.weight", "tower"),
        ("model.mm_projector.0.weight", "projector"),
        ("model.mm_projector.face.fusion.router.weight", "fusion"),
        ("model.mm_projector.face.adapter.widen.weight", "fusion"),
        ("model.mm_projector.face.facial.vit.patches.weight", "facial"),
        ("model.mm_projector.face.segmentation.stem.weight", "segmentation"),
        ("model.mm_projector.face.knowledge.gcn.0.weight", "knowledge"),
        ("model.layers.0.self_attn.q_proj.weight", "llm"),
        ("lm_head.weight", "llm"),
        ("model.image_newline", "llm"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", "lora"),
        ("base_model.model.model.multi_modal_projector.modules_to_save.default.face.fusion.gate", "fusion"),
        ("base_model.model.model.multi_modal_projector.modules_to_save.default.linear_1.weight", "projector"),
        ("base_model.model.model.multi_modal_projector.modules_to_save.mine.face.facial.vit.patches.weight", "facial"),
        (
            "base_model.model.model.multi_modal_projector.face.modules_to_save.default.facial.vit.patches.weight",
            "facial",
        ),
        ("base_model.model.model.multi_modal_projector.original_module.face.fusion.gate", "original"),
        ("base_model.model.model.multi_modal_projector.original_module.linear_1.weight", "original"),
        ("base_model.model.lm_head.original_module.weight", "original"),
        ("base_model.model.lm_head.modules_to_save.default.weight", "llm"),
        ("base_model.model.model.multi_modal_projector.linear_1.lora_A.default.weight", "lora"),
        ("multi_modal_projector.linear_1.bias", "projector"),
        ("model.multi_modal_projector.face.facial.vit.patches.weight", "facial"),
        ("model.language_model.embed_tokens.weight", "llm"),
    ],
)
def test_parts_and_patterns_by_name(name: str, part: str) -> None:
    assert part_of(name) == part
    if "mm_projector" in name:
        return  # the patterns are for transformers' names
    for other in ("tower", "facial", "fusion", "projector", "llm", "lora"):
        found = any(re.search(pattern, name) for pattern in patterns(stage(other)))
        assert found == in_stage(part, [other]), (name, other)


def test_flags_by_hand() -> None:
    def said(host: str, *trainable: str, facial: bool = False, **more: Any) -> dict[str, str]:
        one = stage(*trainable, **more)
        return dict(flags(plan(one), one, host, facial_trained=facial))

    rates = {"learning_rate": "0.001", "num_train_epochs": "1"}
    assert said("llava", "fusion", "projector") == {"tune_mm_mlp_adapter": "True", **rates}
    assert said("llava", "fusion", "projector", "llm", projector_learning_rate=2e-5) == {
        **rates, "mm_projector_lr": "2e-05",
    }  # fmt: skip
    assert said("llava", "llm") == {"freeze_mm_mlp_adapter": "True", **rates}
    lora = {"lora_enable": "True", "lora_r": "128", "lora_alpha": "256"}
    assert said("llava", "fusion", "projector", "lora") == {**lora, **rates}
    assert said("llava-next", "facial", "fusion", "projector", facial=True) == {
        "mm_tunable_parts": "mm_mlp_adapter", **rates,
    }  # fmt: skip
    assert said("llava-next", "tower", "fusion", "projector", "llm", tower_learning_rate=2e-6) == {
        "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model", "mm_vision_tower_lr": "2e-06", **rates,
    }  # fmt: skip
    assert said("llava-next", "lora") == {"mm_tunable_parts": "mm_language_model", **lora, **rates}


@pytest.mark.parametrize(
    ("host", "trainable", "facial", "message"),
    [
        ("llava", ("tower", "fusion", "projector"), False, "never train the vision tower"),
        ("llava", ("fusion",), False, "fusion cannot be trained with projector frozen"),
        ("llava-next", ("fusion", "projector"), True, "with facial frozen"),
        ("llava", ("facial", "fusion", "projector"), False, "facial.trained is false"),
        ("transformers", ("llm",), False, "unknown host with training scripts"),
        ("lava", ("llm",), False, "did you mean 'llava'"),
    ],
)
def test_what_a_host_cannot_do_is_refused(host: str, trainable: tuple[str, ...], facial: bool, message: str) -> None:
    one = stage(*trainable)
    with pytest.raises(FaceConfigError, match=message):
        flags(plan(one), one, host, facial_trained=facial)


def test_shipped_files() -> None:
    assert shipped() == ("favchat", "favchat-lora", "favchat-v6")
    for name in shipped():
        found = load_stages(name)
        assert found.name == name and [s.name for s in found.stages] == ["summary", "qa", "hard"]
        for one in found.stages:
            assert one.data == f"{one.name}_train.json" and f"--stage {one.name}" in one.prepare and one.source
    for name in ("favchat", "favchat-lora"):
        for host in ("llava", "llava-next"):
            for one in load_stages(name).stages:
                assert command(load_stages(name), one, host, "base")
    with pytest.raises(FaceConfigError, match="never train the vision tower"):
        command(load_stages("favchat-v6"), load_stages("favchat-v6").stages[0], "llava", "x", facial_trained=True)


def test_bad_files(tmp_path: Path) -> None:
    good = yaml.safe_load((Path(__file__).parents[2] / "llava_face_plugin/stages/favchat.yaml").read_text())
    path = tmp_path / "mine.yaml"

    def attempt(message: str) -> None:
        path.write_text(yaml.safe_dump(good))
        with pytest.raises(FaceConfigError, match=message):
            load_stages(path)

    path.write_text(yaml.safe_dump(good))
    assert load_stages(path).stage("qa").learning_rate == 2e-4
    for key, value, message in (
        ("trainable", ["fusion", "fusion"], "twice"), ("trainable", ["llm", "lora"], "both llm and lora"),
        ("trainable", ["tover"], "trainable"), ("learning_rate", 0, "learning_rate"), ("epochs", -1, "epochs"),
        ("name", "qa", "two stages of one name"), ("learnin_rate", 1, "did you mean 'learning_rate'"),
    ):  # fmt: skip
        before = dict(good["stages"][0])
        good["stages"][0][key] = value
        attempt(message)
        good["stages"][0] = before
    good["stages"][0]["trainable"] = ["tover"]
    path.write_text(yaml.safe_dump(good))
    with pytest.raises(FaceConfigError) as caught:
        load_stages(path)
    assert str(caught.value).count("\n") == 0 and "stages.0.trainable.0" in str(caught.value), "nothing but the fault"
    for wrong in ([], [before | {"trainable": []}]):
        good["stages"] = wrong
        attempt("expected at least one")
    path.write_text("stages: [")
    with pytest.raises(FaceConfigError, match=r"mine\.yaml: cannot be read"):
        load_stages(path)
    path.write_text("- a")
    with pytest.raises(FaceConfigError, match="got list"):
        load_stages(path)
    with pytest.raises(FaceConfigError, match="did you mean 'favchat'"):
        load_stages("favchatt")


def test_commands_hand_on_what_was_trained() -> None:
    found = load_stages("favchat")
    words = [shlex.split(command(found, one, "llava-next", "base"), comments=True) for one in found.stages]

    def value(at: int, flag: str) -> str | None:
        return words[at][words[at].index(flag) + 1] if flag in words[at] else None

    assert all(w[:2] == ["deepspeed", "llava/train/train_mem.py"] for w in words)
    assert [value(i, "--model_name_or_path") for i in range(3)] == ["base"] * 3
    assert [value(i, "--pretrain_mm_mlp_adapter") for i in range(3)] == [
        None, "$OUT-summary/mm_projector.bin", "$OUT-qa/mm_projector.bin",
    ]  # fmt: skip
    assert [value(i, "--output_dir") for i in range(3)] == ["$OUT-summary", "$OUT-qa", "$OUT-hard"]
    flags_only = [w for w in words[0] if w.startswith("--")]
    assert len(set(flags_only)) == len(flags_only), "no flag twice"
    full = plan(stage("fusion", "projector", "llm"), stage("llm", name="two"))
    assert '--model_name_or_path "$OUT-one"' in command(full, full.stages[1], "llava", "base")
    assert "pretrain_mm_mlp_adapter" not in command(full, full.stages[1], "llava", "base")
    assert "LLaVA 1.5 reads no clips" in command(full, full.stages[1], "llava", "base")
    lora = plan(stage("fusion", "projector", "lora"), stage("llm", name="two"))
    with pytest.raises(FaceConfigError, match="merge its adapters first"):
        command(lora, lora.stages[1], "llava", "base")


@pytest.fixture(scope="module")
def hf_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llava of transformers with a trained facial encoder and the MoE adapter."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14
    )
    text = LlamaConfig(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    out = tmp_path_factory.mktemp("hf") / "tiny"
    LlavaForConditionalGeneration(LlavaConfig(vision, text, image_token_index=3)).save_pretrained(out)
    enable(out, preset="favchat", settings=FACIAL)
    return out


def test_transformers_counts_and_applies(hf_dir: Path) -> None:
    from transformers import AutoModelForImageTextToText

    import llava_face_plugin.hosts.hf  # noqa: F401  (registers the classes)

    found = count(hf_dir)
    model = AutoModelForImageTextToText.from_pretrained(hf_dir)
    assert found.family == "transformers" and found.facial_trained
    assert sum(found.parts.values()) == sum(p.numel() for p in model.parameters())
    face = [n for n, _ in model.named_parameters() if ".face." in n]
    assert found.parts["facial"] == sum(model.get_parameter(n).numel() for n in face if ".face.facial." in n)
    for trainable in (("fusion",), ("tower", "facial"), ("projector", "llm"), ("facial", "fusion", "projector")):
        one = stage(*trainable)
        trained = apply(one, model)
        said = {n for n, p in model.named_parameters() if p.requires_grad}
        assert said == {n for n, _ in model.named_parameters() if any(re.search(p, n) for p in patterns(one))}
        assert {part: found.parts[part] for part in trained} == trained and set(trained) == set(trainable)
    with pytest.raises(FaceConfigError, match=r"add it with PEFT first: neither train_hf\.py nor --check"):
        apply(stage("lora"), model)


def test_what_peft_has_copied_stays_frozen(hf_dir: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForImageTextToText

    import llava_face_plugin.hosts.hf  # noqa: F401  (registers the classes)

    plain = AutoModelForImageTextToText.from_pretrained(hf_dir)
    lora = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["multi_modal_projector"])
    model, one, parts = peft.get_peft_model(plain, lora), stage("fusion", "projector", "lora"), count(hf_dir).parts
    trained = apply(one, model)
    assert {part: trained[part] for part in ("fusion", "projector")} == {p: parts[p] for p in ("fusion", "projector")}
    said = {n for n, p in model.named_parameters() if p.requires_grad}
    assert said and not any("original_module" in n for n in said)
    assert said == {n for n, _ in model.named_parameters() if any(re.search(p, n) for p in patterns(one))}


def test_the_printed_snippet_runs(hf_dir: Path) -> None:
    one = load_stages("favchat-v6").stage("qa")
    place: dict[str, Any] = {}
    exec(command(load_stages("favchat-v6"), one, "transformers", hf_dir), place)
    trained = [n for n, p in place["model"].named_parameters() if p.requires_grad]
    assert trained and all(".face.fusion." in n for n in trained)


def test_llava_s_layout_is_counted_without_its_weights(tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    base = Path(shutil.copytree(tiny_base, tmp_path / "vicuna"))
    with pytest.raises(FaceConfigError, match="face mode is off"):
        count(base)
    enable(base, preset="light")
    for weights in base.glob("*.safetensors"):
        weights.unlink()
    found = count(base, str(base / "clip"))
    config = json.loads((base / "config.json").read_text())
    hidden, tower = config["hidden_size"], json.loads((base / "clip/config.json").read_text())
    width = tower.get("vision_config", tower)["hidden_size"]
    assert found.family == "llava" and not found.outside
    assert found.parts["projector"] == (width + 1) * hidden + (hidden + 1) * hidden
    with torch.device("meta"):
        from transformers import LlamaConfig, LlamaForCausalLM

        plain = LlamaForCausalLM(LlamaConfig.from_pretrained(tiny_base))
    assert found.parts["llm"] == sum(p.numel() for p in plain.parameters())
    large = count(base)
    assert large.parts["tower"] == 303_507_456, "CLIP ViT-L/14-336's vision model (transformers' documentation: 304 M)"
    assert any("--vision-tower" in note for note in large.notes)


def test_upstream_s_own_set_up_agrees(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--check``: LLaVA's train() sets the model up by the flags, and is stopped where training would begin."""
    pytest.importorskip("llava")
    import shutil

    monkeypatch.setenv("LLAVA_FACE_CPU_DRY_RUN", "1")
    base = Path(shutil.copytree(tiny_base, tmp_path / "vicuna"))
    enable(base, preset="favchat", settings=FACIAL)
    path = tmp_path / "mine.yaml"
    adapter = ["facial", "fusion", "projector"]
    stages = [(adapter, "one"), ([*adapter, "llm"], "two"), ([*adapter, "lora"], "three"), (["llm"], "four")]
    written = plan(*(stage(*parts, name=name) for parts, name in stages))
    path.write_text(yaml.safe_dump(json.loads(written.model_dump_json())))
    arguments = ["stages", str(base), "--file", str(path), "--vision-tower", str(base / "clip"), "--check"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.count("the live model trains just that") == 4
    result = CliRunner().invoke(app, ["stages", str(base), "--vision-tower", str(base / "clip")])
    assert result.exit_code == 0 and result.output.count("with facial frozen") == 3, "what the scripts cannot do"
    with pytest.raises(FaceConfigError, match="needs --vision-tower"):
        CliRunner().invoke(app, [*arguments[:4], "--check"], catch_exceptions=False)


def test_check_asks_the_package_that_is_there(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from llava_face_plugin.errors import FaceHostError
    from llava_face_plugin.hosts.llava import which
    from llava_face_plugin.model_files import read_config, write_config

    base = Path(shutil.copytree(tiny_base, tmp_path / "qwen"))
    write_config(base, read_config(base) | {"model_type": "qwen2"})
    enable(base, preset="light")
    arguments = ["stages", str(base), "--vision-tower", str(base / "clip"), "--check"]
    for kind, message in ((None, "neither LLaVA 1.5's package"), ("llava_v1", "has no Qwen: use LLaVA-NeXT's")):
        monkeypatch.setattr(which, "kind", lambda kind=kind: kind)
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, FaceHostError) and message in str(result.exception)


def test_a_wrong_plan_is_noticed() -> None:
    from llava_face_plugin.stages.count import Counts
    from llava_face_plugin.stages.live import differences

    found = Counts({"fusion": 10, "knowledge": 3, "projector": 5, "llm": 100})
    assert differences(stage("fusion", "projector"), found, {"fusion": 10, "knowledge": 3, "projector": 5}) == []
    told = differences(stage("fusion", "projector"), found, {"fusion": 10, "projector": 5, "llm": 100})
    assert told == ["knowledge: 0 parameters are trained, the stage says 3",
                    "llm: 100 parameters are trained, the stage says 0"]  # fmt: skip
    assert differences(stage("lora"), found, {}) == ["lora: 0 parameters are trained"]


def test_the_table(hf_dir: Path) -> None:
    result = CliRunner().invoke(app, ["stages", str(hf_dir), "--file", "favchat-v6", "--check"])
    assert result.exit_code == 0, result.output
    assert result.output.count("the live model trains just that") == 3
    row = next(line for line in result.output.splitlines() if "facial" in line)
    assert row.count("trained") == 1 and row.count("frozen") == 2
    assert CliRunner().invoke(app, ["stages"]).output.count("source:") == 3
    for wrong, message in (
        (["--check"], "about a MODEL_DIR"), (["--stage", "quiz"], "unknown stage"), (["--file", "x"], "no such file"),
        (["--print-command", "vllm"], "unknown host"),
    ):  # fmt: skip
        result = CliRunner().invoke(app, ["stages", *wrong])
        assert result.exit_code == 1 and message in str(result.exception)


def printed(host: str, *arguments: object) -> str:
    result = CliRunner().invoke(app, ["stages", *map(str, arguments), "--print-command", host])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_printed_file_is_the_one_that_was_given(
    hf_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine 3.yaml"
    path.write_text(yaml.safe_dump(json.loads(plan(stage("fusion")).model_dump_json())))
    monkeypatch.chdir(tmp_path)
    said = printed("transformers", hf_dir, "--file", path.name)
    assert f"--stage '{path}:one'" in said and f"load_stages({str(path)!r})" in said
    said = printed("transformers", hf_dir, "--file", "favchat-v6", "--stage", "qa")
    assert "--stage favchat-v6:qa" in said and "load_stages('favchat-v6')" in said


def test_a_directory_of_another_host_gets_no_command(hf_dir: Path, tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    for host in ("llava", "llava-next"):
        with pytest.raises(FaceConfigError, match=f"transformers' own classes, which {host} does not train"):
            printed(host, hf_dir)
    with pytest.raises(FaceConfigError, match="model_type is 'llama': no Llava of transformers' own"):
        printed("transformers", tiny_base)
    base = Path(shutil.copytree(tiny_base, tmp_path / "a model"))
    for host in ("llava", "llava-next"):
        words = shlex.split(printed(host, base, "--stage", "qa"), comments=True)
        assert words[words.index("--model_name_or_path") + 1] == str(base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "llava_qwen"}))
    assert printed("llava-next", base)
    with pytest.raises(FaceConfigError, match="llava trains llama, llava only"):
        printed("llava", base)
    with pytest.raises(FaceConfigError, match="either --check or --print-command"):
        printed("transformers", hf_dir, "--check")


def test_llava_1_5_is_given_no_clips() -> None:
    assert "pictures only" in printed("llava") and "DATA_PATH=" not in printed("llava")
    assert "DATA_PATH=PREPARED/qa_train.json" in printed("llava-next")
    pictures = plan(stage("llm"))
    assert "DATA_PATH=PREPARED/a.json" in command(pictures, pictures.stages[0], "llava", "base")


def test_the_stage_of_a_recipe(tmp_path: Path) -> None:
    assert stage_of("favchat:qa") == load_stages("favchat").stage("qa")
    for wrong in ("favchat", "qa"):
        with pytest.raises(FaceConfigError, match=f"--stage {wrong}: expected FILE:STAGE; .* summary, qa, hard"):
            stage_of(wrong)
