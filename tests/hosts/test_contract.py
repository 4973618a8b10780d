"""The contract of a host, run on every supported stack: off is upstream, on is complete."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from llava_face_plugin import guard
from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.errors import FaceDataError, FaceHostError
from llava_face_plugin.fusion import FUSIONS
from llava_face_plugin.hosts import compat
from llava_face_plugin.hosts.llava_v1 import unwrap
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.switch import enable, read_config, write_config

from . import upstream

pytestmark = pytest.mark.contract

COMBINATIONS = [(encoder, fusion) for encoder in ENCODERS for fusion in FUSIONS]
STAGES = list(upstream.STEP_FLAGS)
FACE = "mm_projector.face."


def switched_on(
    source: Path, out: Path, encoder: str = "part-embedding", fusion: str = "gated_add", **knowledge: Any
) -> Path:
    settings: dict[str, Any] = {"segmentation": {"encoder": encoder}, "fusion": {"type": fusion}}
    if knowledge:
        settings["knowledge"] = knowledge
    if not out.exists():
        enable(source, preset="light", knowledge="made", settings=settings, out=out)
    return out


def load(path: Path, **kwargs: Any) -> Any:
    """As upstream loads a checkpoint, in float32, its vision tower ready."""
    from llava.model import LlavaLlamaForCausalLM

    model = LlavaLlamaForCausalLM.from_pretrained(str(path), torch_dtype=torch.float32, **kwargs)
    tower = model.get_vision_tower()
    if not tower.is_loaded:
        tower.load_model()
    return model.eval()


def batch(model: Any, seed: int = 0, size: int = 3) -> dict[str, torch.Tensor]:
    """Random images with maps, two turns of text; the last sample is text only."""
    from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX

    generator = torch.Generator().manual_seed(seed)
    side = model.get_vision_tower().config.image_size
    ids = torch.randint(3, 300, (size, 12), generator=generator)
    ids[:-1, 4] = IMAGE_TOKEN_INDEX
    labels = ids.clone()
    labels[labels == IMAGE_TOKEN_INDEX] = IGNORE_INDEX
    pixels = torch.randn(size, 3, side, side, generator=generator)
    maps = torch.randint(0, 19, (size, 1, side, side), generator=generator).float()
    maps[-1] = NO_MAP
    images = torch.cat([pixels, maps], dim=1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "images": images}


def without_maps(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**inputs, "images": inputs["images"][:, :3]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- off means off -----------------------------------------------------------------------------------------------


def test_off_is_upstreams_own_class(checkpoint: Path) -> None:
    from llava.model import LlavaLlamaForCausalLM

    model = load(checkpoint)
    assert type(model) is LlavaLlamaForCausalLM
    assert type(model.get_model().mm_projector) is torch.nn.Sequential
    assert "face" not in read_config(checkpoint)


def test_off_logits_equal_a_process_without_the_plugin(checkpoint: Path, root: Path) -> None:
    script = root / "logits.py"
    script.write_text(
        "import hashlib, sys, torch\n"
        "from llava.model import LlavaLlamaForCausalLM\n"
        "model = LlavaLlamaForCausalLM.from_pretrained(sys.argv[1], torch_dtype=torch.float32).eval()\n"
        "model.get_vision_tower().load_model()\n"
        "torch.manual_seed(0)\n"
        "side = model.get_vision_tower().config.image_size\n"
        "ids = torch.randint(3, 300, (2, 9)); ids[:, 3] = -200\n"
        "with torch.no_grad():\n"
        "    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids.clamp(min=0),\n"
        "                images=torch.randn(2, 3, side, side))\n"
        "print('llava_face_plugin.hosts.llava_v1' in sys.modules, type(model.from_pretrained).__name__)\n"
        "print(hashlib.sha256(out.logits.numpy().tobytes()).hexdigest(), out.loss.item())\n"
    )
    found = {}
    for switch in ("0", None):
        result = upstream.run(
            [upstream.python(), script, checkpoint], root, LLAVA_FACE=switch, LLAVA_FACE_CPU_DRY_RUN=None
        )
        assert result.returncode == 0, result.stderr
        found[switch] = result.stdout.strip().splitlines()[-2:]
    assert found["0"][0].startswith("False") and found[None][0].startswith("True")
    assert found["0"][1] == found[None][1]


@pytest.mark.skipif(compat.transformers_series() != "4.37", reason="llava alone trains on its pinned transformers only")
def test_off_checkpoints_equal_a_run_without_the_plugin(base: Path, faces: Path, root: Path) -> None:
    adapter = root / "start.bin"
    torch.manual_seed(0)
    layers = {"0": torch.nn.Linear(32, 64), "2": torch.nn.Linear(64, 64)}
    weights = {f"model.mm_projector.{i}.{k}": v for i, m in layers.items() for k, v in m.state_dict().items()}
    torch.save(weights, adapter)
    found = {}
    for name, switch in (("absent", "0"), ("present", None)):
        out = root / f"llava-off-{name}"
        arguments = upstream.flags(base, base / "clip", faces, out, pretrain_mm_mlp_adapter=adapter)
        command = [upstream.python(), "-m", "llava.train.train", *arguments]
        result = upstream.run(command, root, LLAVA_FACE=switch, LLAVA_FACE_CPU_DRY_RUN=None)
        assert result.returncode == 0, result.stderr[-3000:]
        found[name] = (digest(out / "model.safetensors"), (out / "config.json").read_text())
    assert found["absent"] == found["present"]


# --- on at step 0 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS)
def test_step_0_equals_the_base_model(checkpoint: Path, root: Path, encoder: str, fusion: str) -> None:
    plain = load(checkpoint)
    face = load(switched_on(checkpoint, root / f"llava-{encoder}-{fusion}", encoder, fusion))
    assert type(face).__name__ == "LlavaFaceLlamaForCausalLM"
    inputs = batch(plain)
    with torch.no_grad():
        expected = plain(**without_maps(inputs))
        found = face(**inputs)
    if face.get_model().mm_projector.face.fusion.adds_tokens:
        assert found.logits.shape[1] > expected.logits.shape[1]
    else:
        assert torch.equal(found.logits, expected.logits)
        unlabelled = face.eval()(**{**inputs, "face_attributes": None})
        assert unlabelled.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)


# --- training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", list(ENCODERS))
@pytest.mark.parametrize("stage", STAGES)
def test_every_face_parameter_learns(base: Path, faces: Path, root: Path, stage: str, encoder: str) -> None:
    source = switched_on(base, root / f"base-{encoder}-gated_add", encoder)
    gradients: list[dict[str, float]] = []

    def record(trainer: Any, model: Any) -> None:
        norms = {}
        for name, parameter in unwrap(trainer.model).named_parameters():
            if FACE in name:
                assert parameter.requires_grad, name
                assert parameter.grad is not None, name
                norms[name] = parameter.grad.float().norm().item()
        gradients.append(norms)

    out = root / f"llava-{stage}-{encoder}-grad"
    upstream.train(upstream.flags(source, base / "clip", faces, out, stage, max_steps=3, seed=3), on_step=record)
    assert all(math.isfinite(v) for norms in gradients for v in norms.values())
    assert gradients[0], "no face parameter was found"
    silent = [name for name, norm in gradients[-1].items() if norm == 0.0]
    # The state for samples without a map learns only where a sample has none.
    assert [name for name in silent if "no_map" not in name] == []


@pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS)
def test_finetuned_weights_are_saved_and_reloaded(
    base: Path, faces: Path, root: Path, encoder: str, fusion: str
) -> None:
    source = switched_on(base, root / f"base-{encoder}-{fusion}", encoder, fusion)
    out = root / f"llava-ft-{encoder}-{fusion}"
    trainer = upstream.train(upstream.flags(source, base / "clip", faces, out))
    trained = trainer.model.eval()
    saved = read_config(out)
    assert saved["mm_projector_type"] == "face+mlp2x_gelu"
    assert saved["architectures"] == ["LlavaFaceLlamaForCausalLM"]
    again = load(out)
    ours = {n: p for n, p in trained.named_parameters() if FACE in n}
    theirs = dict(again.named_parameters())
    assert ours and all(torch.equal(p, theirs[n]) for n, p in ours.items())
    for model in (trained, again):
        model.get_vision_tower().half().float()  # train.py rounds the tower to float16
    inputs = batch(trained)
    with torch.no_grad():
        assert torch.equal(trained(**inputs).logits, again(**inputs).logits)
        probabilities = again.attribute_probabilities(inputs["images"])
    assert probabilities.shape == (3, 20) and bool(((probabilities >= 0) & (probabilities <= 1)).all())


def test_lora_merged_equals_unmerged(base: Path, faces: Path, root: Path) -> None:
    from llava.model.builder import load_pretrained_model

    source = switched_on(base, root / "base-light")
    out = root / "llava-lora-merged"
    trainer = upstream.train(upstream.flags(source, base / "clip", faces, out, "lora"))
    _, merged, processor, _ = load_pretrained_model(
        str(out), str(source), "llava-lora-merged", device="cpu", device_map=None
    )
    trained = unwrap(trainer.model)
    theirs = dict(merged.named_parameters())
    for name, parameter in trained.named_parameters():
        if FACE in name:
            assert torch.equal(parameter.half(), theirs[name]), name
    merged = merged.float().eval()
    trained.get_vision_tower().float()
    merged.get_vision_tower().float()
    inputs = batch(trained)
    with torch.no_grad():
        expected, found = trained.eval()(**inputs).logits, merged(**inputs).logits
    # Loading rounds every weight to float16, as upstream always does.
    assert torch.allclose(expected, found, atol=5e-3)
    assert processor.image_mean is not None  # the wrapped processor answers for the plain one


def test_stage_1_adapter_carries_the_branch_into_finetune(base: Path, faces: Path, root: Path) -> None:
    source = switched_on(base, root / "base-light")
    first = root / "llava-stage1"
    upstream.train(upstream.flags(source, base / "clip", faces, first, "stage1"))
    adapter = torch.load(first / "mm_projector.bin", weights_only=True)
    assert any(FACE in name for name in adapter)
    second = root / "llava-stage2"
    trainer = upstream.train(
        upstream.flags(
            source, base / "clip", faces, second, max_steps=1, learning_rate=0.0,
            pretrain_mm_mlp_adapter=first / "mm_projector.bin",
        )
    )  # fmt: skip
    trained = dict(unwrap(trainer.model).named_parameters())
    for name, value in adapter.items():
        assert torch.equal(value, trained[name]), name


def test_a_plain_adapter_loads_into_face_mode(base: Path, faces: Path, root: Path) -> None:
    plain = root / "llava-plain-stage1"
    upstream.train(upstream.flags(base, base / "clip", faces, plain, "stage1"))
    adapter = torch.load(plain / "mm_projector.bin", weights_only=True)
    trainer = upstream.train(
        upstream.flags(
            switched_on(base, root / "base-light"), base / "clip", faces, root / "llava-on-plain", max_steps=1,
            learning_rate=0.0, pretrain_mm_mlp_adapter=plain / "mm_projector.bin",
        )
    )  # fmt: skip
    trained = dict(unwrap(trainer.model).named_parameters())
    for name, value in adapter.items():
        assert torch.equal(value, trained[name]), name


def test_loss_parts_do_not_change_with_accumulation(base: Path, faces: Path, root: Path) -> None:
    source = switched_on(base, root / "base-light")
    found = {}
    for steps in (1, 2, 4):
        out = root / f"llava-accumulation-{steps}"
        upstream.train(
            upstream.flags(
                source, base / "clip", faces, out, max_steps=1, seed=5, group_by_modality_length=False,
                per_device_train_batch_size=8 // steps, gradient_accumulation_steps=steps,
            )
        )  # fmt: skip
        found[steps] = upstream.logs(out)[0]
    for steps in (2, 4):
        for part in ("loss_bce", "loss_logic"):
            assert found[steps][part] == pytest.approx(found[1][part], abs=2e-4), (steps, part)
        # Upstream averages L_lm over the tokens of each micro-batch; the sum must still be its parts.
        parts = sum(found[steps][part] for part in ("loss_lm", "loss_bce", "loss_logic"))
        assert float(found[steps]["loss"]) == pytest.approx(parts, abs=2e-3)
    assert found[1]["loss_bce"] > 0


@pytest.mark.parametrize("kind", ["text_only", "no_labels"])
def test_batches_without_labels_are_finite_and_connected(checkpoint: Path, root: Path, kind: str) -> None:
    model = load(switched_on(checkpoint, root / "llava-part-embedding-gated_add")).train()
    inputs = batch(model)
    if kind == "text_only":
        from llava.constants import IMAGE_TOKEN_INDEX

        inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE_TOKEN_INDEX, 7)
        inputs["images"] = torch.zeros_like(inputs["images"])
        inputs["images"][:, 3] = NO_MAP
    attributes = torch.full((3, 20), -1, dtype=torch.int8)
    output = model(**inputs, face_attributes=attributes)
    expected = load(checkpoint)(**without_maps(inputs))  # gates are closed: L_lm alone
    assert output.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        if FACE in name:
            assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
    parts = model.pop_loss_parts()
    assert parts["loss_bce"].item() == 0.0 and parts["loss_logic"].item() == 0.0


def test_upstreams_generate_takes_the_map_channel(checkpoint: Path, root: Path) -> None:
    model = load(switched_on(checkpoint, root / "llava-part-embedding-gated_add"))
    inputs = batch(model, size=2)
    prompt = inputs["input_ids"][:1]
    arguments = {"do_sample": False, "max_new_tokens": 4, "use_cache": True}
    with_map = model.generate(prompt, images=inputs["images"][:1], **arguments)
    plain = load(checkpoint).generate(prompt, images=inputs["images"][:1, :3], **arguments)
    assert torch.equal(with_map, plain)  # gates are closed
    torch.nn.init.constant_(model.get_model().mm_projector.face.fusion.gate, 1.0)
    other = inputs["images"].clone()
    other[0, 3] = 13  # all hair
    with torch.no_grad():
        tokens = [model.encode_images(images[:1]) for images in (inputs["images"], other, inputs["images"][:, :3])]
    assert not torch.equal(tokens[0], tokens[1]) and not torch.equal(tokens[0], tokens[2])


def test_from_pretrained_takes_keywords_as_upstream_does(checkpoint: Path, root: Path) -> None:
    from llava.model import LlavaLlamaForCausalLM

    face = switched_on(checkpoint, root / "llava-part-embedding-gated_add")
    for path in (checkpoint, face):
        model = LlavaLlamaForCausalLM.from_pretrained(pretrained_model_name_or_path=str(path), use_cache=False)
        assert model.config.use_cache is False
    with pytest.raises((OSError, ValueError), match="nowhere"):
        LlavaLlamaForCausalLM.from_pretrained(str(root / "nowhere"))
    with pytest.raises(FaceHostError, match="llm_int8_skip_modules"):
        LlavaLlamaForCausalLM.from_pretrained(str(face), load_in_4bit=True)


def test_an_offloaded_projector_still_works(checkpoint: Path, root: Path) -> None:
    """``device_map="auto"`` may keep the projector elsewhere and bring it in for each call."""
    from accelerate import cpu_offload

    for encoder, fusion in COMBINATIONS:
        model = load(switched_on(checkpoint, root / f"llava-{encoder}-{fusion}", encoder, fusion))
        inputs = batch(model)
        with torch.no_grad():
            expected = model.encode_images(inputs["images"])
            cpu_offload(model.get_model().mm_projector, execution_device=torch.device("cpu"))
            assert torch.equal(model.encode_images(inputs["images"]), expected)


def test_the_palette_can_have_a_vit_of_its_own(base: Path, faces: Path, root: Path) -> None:
    source = root / "base-own-vit"
    enable(
        base, knowledge="made", out=source,
        settings={"segmentation": {"encoder": "vit-palette", "vision_tower": str(base / "clip")}},
    )  # fmt: skip
    out = root / "llava-own-vit"
    trainer = upstream.train(upstream.flags(source, base / "clip", faces, out))
    trained = unwrap(trainer.model).eval()
    assert trained._own_vit is not None
    names = [name for name, _ in trained.named_parameters() if FACE in name]
    assert names and not any("vision_model" in name or "encoder.layers" in name for name in names)
    again = load(out)
    for model in (trained, again):
        model.get_vision_tower().half().float()
    inputs = batch(trained)
    with torch.no_grad():
        expected = trained(**inputs).logits
        assert torch.equal(expected, again(**inputs).logits)
        moved = {**inputs, "images": inputs["images"].clone()}
        moved["images"][0, 3] = 13  # all hair
        assert not torch.equal(expected, again(**moved).logits)


def test_inference_finds_the_map_by_the_images_pixels(checkpoint: Path, faces: Path, root: Path, caplog: Any) -> None:
    from llava.mm_utils import process_images
    from llava.model.builder import load_pretrained_model
    from PIL import Image

    from llava_face_plugin.hosts.label_channel import square, through_processor
    from llava_face_plugin.parsing.maps import read_map

    out = root / "llava-parser"
    parser = {"parser": "precomputed", "parser_path": str(faces / "index.json")}
    enable(checkpoint, knowledge="made", out=out, settings={"segmentation": parser})
    _, model, processor, _ = load_pretrained_model(str(out), None, "llava-parser", device="cpu", device_map=None)
    sample = next(s for s in json.loads((faces / "train.json").read_text()) if "image" in s)
    picture = Image.open(faces / sample["image"]).convert("RGB")
    assert model.config.image_aspect_ratio == "pad"
    images = process_images([picture], processor, model.config)
    expected = through_processor(square(read_map(faces / sample["face_map"])), processor)
    assert images.shape[1] == 4 and torch.equal(images[0, 3], expected)
    assert len(expected.unique()) > 5
    stranger = process_images([Image.new("RGB", (40, 30), (9, 9, 9))], processor, model.config)
    assert bool((stranger[0, 3] == NO_MAP).all())
    prompt = batch(model)["input_ids"][:1]
    with caplog.at_level("WARNING", logger="llava_face_plugin"):
        for _ in range(2):
            model.generate(prompt, images=images.half(), do_sample=False, max_new_tokens=1)
    said = [r.getMessage() for r in caplog.records if r.name == "llava_face_plugin"]
    assert said == ["face mode: label maps come from the parser 'precomputed'"]


# --- never silently absent ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["base", "checkpoint"])
def test_upstream_alone_refuses_a_face_directory(base: Path, checkpoint: Path, root: Path, kind: str) -> None:
    source = base if kind == "base" else checkpoint
    out = switched_on(source, root / f"guarded-{kind}")
    code = (
        "from llava.model import LlavaLlamaForCausalLM as M\n"
        f"M.from_pretrained({str(out)!r})\n"
    )  # fmt: skip
    result = upstream.run([upstream.python(), "-c", code], root, LLAVA_FACE="0", LLAVA_FACE_CPU_DRY_RUN=None)
    assert result.returncode != 0
    assert ("llava_face_plugin is not active" if kind == "base" else "face+mlp2x_gelu") in result.stderr


def test_another_language_model_is_refused(checkpoint: Path, root: Path) -> None:
    import llava.model as models

    if not hasattr(models, "LlavaMistralForCausalLM"):
        pytest.skip("upstream could not import its Mistral model on this transformers version")
    out = switched_on(checkpoint, root / "llava-part-embedding-gated_add")
    with pytest.raises(FaceHostError, match="LlavaLlamaForCausalLM"):
        models.LlavaMistralForCausalLM.from_pretrained(str(out))


def test_half_a_branch_in_a_checkpoint_is_refused(base: Path, faces: Path, root: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = switched_on(base, root / "base-part-embedding-gated_add")
    whole = root / "llava-whole"
    upstream.train(upstream.flags(source, base / "clip", faces, whole, max_steps=1))
    half = shutil.copytree(whole, root / "llava-half")
    tensors = load_file(half / "model.safetensors")
    tensors.pop("model.mm_projector.face.fusion.gate")
    save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FaceHostError, match=r"fusion\.gate"):
        load(half)


# --- bad input ---------------------------------------------------------------------------------------------------


def spoiled(faces: Path, root: Path, name: str, **changes: Any) -> Path:
    samples = json.loads((faces / "train.json").read_text())
    row = next(i for i, sample in enumerate(samples) if "image" in sample)
    samples[row].update(changes)
    if changes.get("conversations", 0) is None:
        del samples[row]["conversations"]
    path = root / f"{name}.json"
    path.write_text(json.dumps(samples))
    return path


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("image", {"image": "broken.jpg", "face_map": None}, "broken.jpg"),
        ("attribute", {"face_attributes": {"Smilling": 1}}, "did you mean 'Smiling'"),
        ("value", {"face_attributes": {"Smiling": 2}}, "'Smiling' is 2"),
        ("turns", {"conversations": None}, "no conversations"),
        ("missing", {"face_map": "maps/none.png"}, "no such file"),
    ],
)  # fmt: skip
def test_bad_samples_are_named(
    base: Path, faces: Path, root: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    whole = next(iter(sorted((faces / "images").iterdir()))).read_bytes()
    (faces / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    source = switched_on(base, root / "base-light")
    data = spoiled(faces, root, name, **changes)
    arguments = upstream.flags(
        source, base / "clip", faces, root / f"llava-bad-{name}", data_path=data, max_steps=8,
        group_by_modality_length=False,
    )  # fmt: skip
    with pytest.raises(FaceDataError, match=message) as error:
        upstream.train(arguments)
    assert "row " in str(error.value)


def test_bad_maps_can_be_counted_instead(base: Path, faces: Path, root: Path) -> None:
    data = spoiled(faces, root, "lenient", face_map="maps/none.png")
    source = root / "base-lenient"
    enable(base, settings={"segmentation": {"bad_map": "no-map"}}, out=source)
    arguments = upstream.flags(
        source, base / "clip", faces, root / "llava-lenient", data_path=data, max_steps=7,
        group_by_modality_length=False,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"trained without a map \(1 so far"):
        upstream.train(arguments)


def test_a_wrong_block_is_refused_at_load(checkpoint: Path, root: Path) -> None:
    from llava_face_plugin.errors import FaceConfigError

    out = shutil.copytree(checkpoint, root / "llava-wrong")
    config = read_config(out)
    config["face"] = {"enabled": True, "fusion": {"kind": "append"}}
    guard.put_on(config)
    write_config(out, config)
    with pytest.raises(FaceConfigError, match=r"face\.fusion\.kind"):
        load(out)
