"""The contract on transformers' own Llava classes: off is upstream, step 0 the base, everything learns."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.hosts import hf
from llava_face_plugin.hosts.hf import versions
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.switch import enable

from .tiny_hf import (
    FACE,
    FAMILIES,
    IMAGE_TOKEN,
    batch,
    build,
    load,
    open_gates,
    silent_at_step_2,
    some_attributes,
    switched_on,
    without_maps,
)

pytestmark = pytest.mark.contract

COMBINATIONS = [
    *((encoder, fusion) for encoder in ("part-embedding", "vit-palette") for fusion in ("gated_add", "channel")),
    ("facial", "moe"),
    ("facial-trained", "moe/grouped"),
    ("part-embedding & facial", "moe"),
    ("facial", "soft-gate"),
    ("part-embedding & facial", "text-query"),
]
BOTH = [("part-embedding", "gated_add"), ("part-embedding & facial-trained", "moe")]
"""For what need not be tried with every combination: the default, and all kinds of parameters that there are."""
family_wise = pytest.mark.parametrize("family", FAMILIES)


def plain_class(family: str) -> str:
    """``"llava_next"`` -> ``"LlavaNext"``."""
    return "".join(part.capitalize() for part in family.split("_"))


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@family_wise
def test_off_is_upstreams_own_class(root: Path, family: str) -> None:
    model = load(build(family, root / family))
    assert type(model).__name__ == f"{plain_class(family)}ForConditionalGeneration"
    assert type(model).__module__.startswith("transformers.")
    assert not any(FACE in name for name, _ in model.named_parameters())


@family_wise
def test_a_face_class_without_the_flag_is_plain(root: Path, family: str) -> None:
    source = build(family, root / family)
    cls = getattr(hf, f"Face{plain_class(family)}ForConditionalGeneration")
    config = getattr(hf, f"Face{plain_class(family)}Config").from_pretrained(source)
    model = cls.from_pretrained(source, config=config).eval()
    assert not any(FACE in name for name, _ in model.named_parameters())
    inputs = without_maps(batch(family))
    assert torch.equal(logits(model, inputs), logits(load(source), inputs))


@pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS)
@family_wise
def test_step_0_equals_the_base_model(root: Path, family: str, encoder: str, fusion: str) -> None:
    plain, face = load(build(family, root / family)), load(switched_on(family, root, encoder, fusion))
    assert type(face).__name__ == f"Face{plain_class(family)}ForConditionalGeneration"
    inputs = batch(family)
    with torch.no_grad():
        expected, found = plain(**without_maps(inputs)), face(**inputs)
        assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)
        assert torch.equal(face(**without_maps(inputs)).logits, expected.logits)


@pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS)
@family_wise
def test_every_face_parameter_learns_by_step_2(root: Path, family: str, encoder: str, fusion: str) -> None:
    model = load(switched_on(family, root, encoder, fusion))
    assert silent_at_step_2(model, {**batch(family), "face_attributes": some_attributes()}) == []


@family_wise
def test_the_map_is_read_tile_by_tile(root: Path, family: str) -> None:
    """Changing the map of one tile changes the features of that tile, and no others."""
    model = load(switched_on(family, root))
    open_gates(model)
    inputs = batch(family)
    other = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    other["pixel_values"][(0,) if family == "llava" else (0, 1)][3] = 4.0  # 3: the channel of the map
    kwargs = {} if family == "llava" else {"image_sizes": inputs["image_sizes"]}
    with torch.no_grad():
        before, after = (
            list(getattr(out, "pooler_output", out))
            for out in (model.model.get_image_features(x["pixel_values"], **kwargs) for x in (inputs, other))
        )
    assert torch.equal(before[1], after[1]) and torch.equal(before[2], after[2])
    changed = (before[0] != after[0]).any(-1)
    if family == "llava":
        assert bool(changed.all())
    else:
        assert not bool(changed[:16].any()) and bool(changed[16:].any())  # the base tile came first


@pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS)
@family_wise
def test_saved_weights_come_back(root: Path, tmp_path: Path, family: str, encoder: str, fusion: str) -> None:
    model = load(switched_on(family, root, encoder, fusion))
    open_gates(model)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == f"face_{family}" and saved["face"]["enabled"] is True
    again, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    found, expected = logits(again.eval(), batch(family)), logits(model, batch(family))
    # An expert with a single patch is a matrix-vector product, which rounds by where its weight lies in memory.
    assert torch.allclose(found, expected, rtol=0, atol=1e-6 if fusion == "moe/grouped" else 0.0)
    assert type(AutoModel.from_pretrained(tmp_path)).__name__ == f"Face{plain_class(family)}Model"


@family_wise
def test_a_plain_checkpoint_lacks_face_keys_alone(root: Path, family: str) -> None:
    _, info = AutoModelForImageTextToText.from_pretrained(switched_on(family, root), output_loading_info=True)
    assert info["missing_keys"] and all(FACE in key for key in info["missing_keys"])


@family_wise
def test_a_plain_directory_takes_the_block_from_python(root: Path, family: str) -> None:
    source = build(family, root / family)
    name = f"Face{plain_class(family)}"
    config = getattr(hf, f"{name}Config").from_pretrained(source, face={"enabled": True, "preset": "light"})
    assert config.model_type == f"face_{family}"
    model = getattr(hf, f"{name}ForConditionalGeneration").from_pretrained(source, config=config).eval()
    assert any(FACE in key for key in model.state_dict())
    inputs = batch(family)
    assert torch.equal(logits(model, inputs), logits(load(source), without_maps(inputs)))


@family_wise
def test_a_checkpoint_that_lacks_more_is_refused(root: Path, tmp_path: Path, family: str) -> None:
    source = shutil.copytree(switched_on(family, root), tmp_path / "broken", symlinks=False)
    file = source / "model.safetensors"
    with safe_open(file, "pt") as stream:
        names = list(stream.keys())
        weights = {name: stream.get_tensor(name) for name in names if "layers.1.mlp.up_proj" not in name}
    file.unlink()
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(FaceHostError, match=r"1 weights that are not face mode's are missing.*up_proj"):
        load(source)


@family_wise
def test_weights_in_the_layout_of_llava_hf(root: Path, tmp_path: Path, family: str) -> None:
    """The names that llava-hf's files have. 5.x renames them by a table that outside classes must be entered in."""
    source = shutil.copytree(switched_on(family, root), tmp_path / "hub", symlinks=False)
    weights = load(build(family, root / family)).state_dict()
    tied = "lm_head.weight" if family == "llava_onevision" else ""
    (source / "model.safetensors").unlink()
    renamed = {as_in_llava_hf(name): value.clone() for name, value in weights.items() if name != tied}
    save_file(renamed, source / "model.safetensors", metadata={"format": "pt"})
    inputs = batch(family)
    expected = logits(load(root / family), without_maps(inputs))
    assert torch.equal(logits(load(source), inputs), expected)
    _, info = AutoModel.from_pretrained(source, output_loading_info=True)
    assert all(FACE in key for key in info["missing_keys"])


def as_in_llava_hf(name: str) -> str:
    name = name.removeprefix("model.")
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
        return name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return name


def test_half_a_branch_keeps_what_it_has(root: Path, tmp_path: Path) -> None:
    """Knowledge switched on for a checkpoint that was trained without it."""
    first = load(switched_on("llava", root, knowledge=None))
    open_gates(first)
    first.save_pretrained(tmp_path / "trained")
    switched = json.loads((switched_on("llava", root) / "config.json").read_text())
    config = json.loads((tmp_path / "trained" / "config.json").read_text())
    config["face"]["knowledge"] = switched["face"]["knowledge"]
    (tmp_path / "trained" / "config.json").write_text(json.dumps(config))
    second = load(tmp_path / "trained")
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, dict(second.named_parameters())[name]), name
    bias = second.model.multi_modal_projector.face.knowledge.bias
    prior = torch.tensor([a["prior"] for a in config["face"]["knowledge"]["attributes"]]).clamp(1e-3, 1 - 1e-3)
    assert torch.allclose(bias, torch.logit(prior), atol=1e-4)


@pytest.mark.parametrize(("encoder", "fusion"), BOTH)
@family_wise
def test_generation(root: Path, family: str, encoder: str, fusion: str) -> None:
    model = load(switched_on(family, root, encoder, fusion))
    open_gates(model)
    inputs = {key: value for key, value in batch(family).items() if key != "labels"}
    prompt = inputs["input_ids"].shape[1]
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    greedy = model.generate(**inputs, **options)
    assert torch.equal(model.generate(**inputs, **options, use_cache=False), greedy)
    assert torch.equal(model.generate(**inputs, **options, cache_implementation="static"), greedy)
    assert model.generate(**inputs, **options, num_beams=2).shape == greedy.shape
    full = {**inputs, "input_ids": greedy, "attention_mask": torch.cat([inputs["attention_mask"], torch.ones(3, 5)], 1)}
    forced = logits(model, {**full, "attention_mask": full["attention_mask"].long()})
    assert torch.equal(forced[:, prompt - 1 : -1].argmax(-1), greedy[:, prompt:])
    kept = logits(model, {**inputs, "logits_to_keep": 1})
    assert kept.shape[1] == 1 and torch.allclose(kept, logits(model, inputs)[:, -1:], atol=1e-5)
    alone = {key: value[1:2] for key, value in inputs.items()}
    assert torch.equal(model.generate(**alone, **options)[0, prompt:], greedy[1, prompt:])
    assert not torch.allclose(logits(model, inputs), logits(model, without_maps(inputs)), atol=1e-3)


@pytest.mark.parametrize(("encoder", "fusion"), [*BOTH, ("facial", "text-query")])
@family_wise
def test_gradient_checkpointing_gives_the_same_gradients(root: Path, family: str, encoder: str, fusion: str) -> None:
    found = []
    for on in (False, True):
        model = load(switched_on(family, root, encoder, fusion)).train()
        open_gates(model)
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**batch(family), face_attributes=some_attributes()).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


@pytest.mark.parametrize(("encoder", "fusion"), [*BOTH, ("vit-palette", "gated_add")])
@family_wise
def test_half_precision(root: Path, family: str, encoder: str, fusion: str) -> None:
    name = "torch_dtype" if transformers.__version__.startswith("4.55.") else "dtype"
    model = load(switched_on(family, root, encoder, fusion), **{name: torch.bfloat16})
    open_gates(model)
    inputs = batch(family)
    inputs["pixel_values"] = inputs["pixel_values"].bfloat16()  # as processors' outputs are moved
    output = model.train()(**inputs, face_attributes=some_attributes())
    assert output.logits.dtype == torch.bfloat16
    output.loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for n, p in model.named_parameters() if FACE in n)
    single = load(switched_on(family, root, encoder, fusion))
    open_gates(single)
    assert torch.allclose(logits(single, batch(family)), output.logits.float(), atol=0.3)


@family_wise
def test_eager_and_sdpa_attention_agree(root: Path, family: str) -> None:
    found = []
    for attention in ("eager", "sdpa"):
        model = load(switched_on(family, root, "vit-palette"), attn_implementation=attention)
        open_gates(model)
        found.append(logits(model, batch(family))[batch(family)["attention_mask"].bool()])
    assert torch.allclose(*found, atol=1e-4)


@family_wise
@pytest.mark.parametrize("kind", ["no maps", "no labels", "neither"])
def test_batches_without_maps_or_labels_take_the_same_path(root: Path, family: str, kind: str) -> None:
    """Every parameter stays in the graph: ranks of a distributed training must not differ in that."""
    model = load(switched_on(family, root)).train()
    inputs = batch(family)
    if kind != "no labels":
        inputs["pixel_values"][..., 3, :, :] = NO_MAP
    attributes = None if kind == "neither" else torch.full((3, 20), -1) if kind == "no labels" else some_attributes()
    output = model(**inputs, face_attributes=attributes)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        if FACE in name:
            assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
    if kind != "no maps":
        plain = load(build(family, root / family))
        with torch.no_grad():
            assert output.loss.item() == pytest.approx(plain(**without_maps(inputs)).loss.item(), abs=1e-5)


@family_wise
def test_a_text_only_sample_in_a_batch(root: Path, family: str) -> None:
    model = load(switched_on(family, root)).train()
    inputs = batch(family)
    inputs["input_ids"][-1] = torch.where(inputs["input_ids"][-1] == IMAGE_TOKEN, 7, inputs["input_ids"][-1])
    inputs["pixel_values"] = inputs["pixel_values"][:2]
    if family != "llava":
        inputs["image_sizes"] = inputs["image_sizes"][:2]
    model(**inputs, face_attributes=some_attributes()[:2]).loss.backward()
    with pytest.raises(FaceDataError, match="a row for each image"):
        model(**inputs, face_attributes=some_attributes())


@family_wise
def test_attribute_probabilities(root: Path, family: str) -> None:
    model = load(switched_on(family, root))
    inputs = {k: v for k, v in batch(family).items() if k in ("pixel_values", "image_sizes")}
    found = model.attribute_probabilities(**inputs)
    assert found.shape == (3, 20) and bool(((found >= 0) & (found <= 1)).all())
    open_gates(model)
    other = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    if family != "llava":
        other["pixel_values"][:, 1:, 3] = 4.0  # every tile but the first: the head looks at the whole image
        assert torch.equal(model.attribute_probabilities(**other), model.attribute_probabilities(**inputs))
    with pytest.raises(FaceHostError, match="no knowledge"):
        load(switched_on(family, root, knowledge=None)).attribute_probabilities(**inputs)


def test_append_counts_in_llava_and_is_refused_with_tiles(root: Path, tmp_path: Path) -> None:
    model = load(switched_on("llava", root, fusion="append"))
    assert logits(model, batch("llava", extra=16)).shape[1] == 16 + 16 + 8
    with pytest.raises(FaceConfigError, match="append"):
        enable(build("llava_next", root / "llava_next"), settings=["fusion.type=append"], out=tmp_path / "next")
    config = hf.FaceLlavaNextConfig.from_pretrained(
        root / "llava_next", face={"enabled": True, "fusion": {"type": "append"}}
    )
    with pytest.raises(FaceHostError, match="append"):
        hf.FaceLlavaNextForConditionalGeneration(config)


def test_a_wrong_block_is_refused(root: Path) -> None:
    with pytest.raises(FaceConfigError, match="fusoin"):
        hf.FaceLlavaConfig(face={"enabled": True, "fusoin": {}})
    assert hf.FaceLlavaConfig().face is None  # transformers compares with the defaults when it saves


def test_data_parallel_is_refused(root: Path) -> None:
    model = load(switched_on("llava", root))
    model.model._is_replica = True  # as torch marks them
    with pytest.raises(FaceHostError, match="DataParallel"):
        model(**batch("llava"))


def test_outputs_as_tuples(root: Path) -> None:
    model = load(switched_on("llava", root)).train()
    whole = model(**batch("llava"), face_attributes=some_attributes())
    loss, logits_found, *_ = model(**batch("llava"), face_attributes=some_attributes(), return_dict=False)
    assert torch.equal(loss, whole.loss) and torch.equal(logits_found, whole.logits)
    inputs = {key: value for key, value in batch("llava").items() if key != "labels"}
    assert isinstance(model.eval().model(**inputs, return_dict=False), tuple)


def test_a_copy_of_the_model_is_whole(root: Path) -> None:
    model = load(switched_on("llava", root, "vit-palette"))
    open_gates(model)
    assert torch.equal(logits(copy.deepcopy(model), batch("llava")), logits(model, batch("llava")))


@pytest.mark.parametrize(
    ("version", "expected"),
    [("4.54.1", False), ("4.55.0", True), ("5.23.0", True), ("5.0.0rc1", True), ("6.0.0", False)],
)
def test_the_range_of_versions(version: str, expected: bool) -> None:
    assert versions.supported(version) is expected
    assert versions.check() == transformers.__version__


def test_another_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions.metadata, "version", lambda name: "4.37.2")
    with pytest.raises(FaceHostError, match=r">= 4\.55 and < 6, but 4\.37\.2 is installed"):
        versions.check()


def test_registering_again_changes_nothing(root: Path) -> None:
    hf.register()
    assert type(AutoConfig.from_pretrained(switched_on("llava", root))) is hf.FaceLlavaConfig


def test_the_branch_compiles(root: Path) -> None:
    model = load(switched_on("llava", root))
    open_gates(model)
    expected = logits(model, batch("llava"))
    projector = model.model.multi_modal_projector
    projector.face = torch.compile(projector.face, backend="aot_eager", fullgraph=True)
    assert torch.allclose(logits(model, batch("llava")), expected, atol=1e-5)
