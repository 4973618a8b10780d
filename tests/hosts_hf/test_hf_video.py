"""Video on LlavaOnevision and LlavaNextVideo: the contract with frames, and the frames that maps belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from llava_face_plugin.errors import FaceDataError, FaceHostError
from llava_face_plugin.hosts.hf import FaceLossMixin
from llava_face_plugin.labels import NO_MAP

from .tiny_hf import (
    FACE,
    FRAMES,
    VIDEO_FAMILIES,
    build,
    load,
    open_gates,
    silent_at_step_2,
    some_attributes,
    switched_on,
    video_batch,
    without_maps,
)

pytestmark = pytest.mark.contract

COMBINATIONS = [
    *((encoder, fusion) for encoder in ("part-embedding", "vit-palette") for fusion in ("gated_add", "channel")),
    ("facial-trained", "moe"),
]
KINDS = {
    "videos": ("video", "video"),
    "video and image": ("video", "image"),
    "both in a text": ("image video", "video image video"),
    "with a text": ("video", "text", "image"),
}
family_wise = pytest.mark.parametrize("family", VIDEO_FAMILIES)
kind_wise = pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS.keys())


def count(inputs: dict[str, torch.Tensor]) -> int:
    """Rows of face_attributes."""
    return sum(len(inputs[name]) for name in ("pixel_values", "pixel_values_videos") if name in inputs)


def face_model(family: str, root: Path, *which: str) -> Any:
    model = load(switched_on(family, root, *which))
    open_gates(model)
    return model


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@kind_wise
@pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS)
@family_wise
def test_step_0_equals_the_base_model(
    root: Path, family: str, encoder: str, fusion: str, kinds: tuple[str, ...]
) -> None:
    plain, face = load(build(family, root / family)), load(switched_on(family, root, encoder, fusion))
    inputs = video_batch(family, kinds)
    with torch.no_grad():
        expected, found = plain(**without_maps(inputs)), face(**inputs)
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)
    assert torch.equal(logits(face, without_maps(inputs)), expected.logits)


@kind_wise
@pytest.mark.parametrize(
    ("encoder", "fusion"), [("part-embedding", "gated_add"), ("vit-palette", "gated_add"), ("facial-trained", "moe")]
)
@family_wise
def test_every_face_parameter_learns_by_step_2(
    root: Path, family: str, encoder: str, fusion: str, kinds: tuple[str, ...]
) -> None:
    inputs = video_batch(family, kinds)
    model = load(switched_on(family, root, encoder, fusion))
    assert silent_at_step_2(model, {**inputs, "face_attributes": some_attributes(count(inputs))}) == []


@kind_wise
@family_wise
def test_without_maps_and_labels_every_face_parameter_is_in_the_graph(
    root: Path, family: str, kinds: tuple[str, ...]
) -> None:
    model = load(switched_on(family, root)).train()
    model(**without_maps(video_batch(family, kinds))).loss.backward()
    for name, parameter in model.named_parameters():
        if FACE in name:
            assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name


@family_wise
def test_a_batch_of_texts_runs_no_projector(root: Path, family: str) -> None:
    plain, face = load(build(family, root / family)), face_model(family, root)
    inputs = video_batch(family, ("text", "text"))
    assert "pixel_values_videos" not in inputs
    assert torch.equal(logits(face, inputs), logits(plain, inputs))
    face.train()(**inputs).loss.backward()
    assert all(p.grad is None for name, p in face.named_parameters() if FACE in name)


@family_wise
def test_the_map_is_read_frame_by_frame(root: Path, family: str) -> None:
    """The map of one frame changes that frame's tokens, and no others."""
    model = face_model(family, root)
    inputs = video_batch(family)
    other = inputs["pixel_values_videos"].clone()
    other[0, 1, 3] = 4.0  # 3: the channel of the map
    before, after = (video_tokens(model, pixels) for pixels in (inputs["pixel_values_videos"], other))
    assert before.shape == after.shape == (2, FRAMES * 4, 64)
    changed = (before != after).any(-1)
    assert bool(changed[0, 4:8].all()) and int(changed.sum()) == 4


def video_tokens(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """(videos, tokens, D), without OneVision's newline, in whichever form this release gives them."""
    names = ("vision_feature_layer", "vision_feature_select_strategy")
    with torch.no_grad():
        found = model.model.get_video_features(pixels, **{name: getattr(model.config, name) for name in names})
    found = getattr(found, "pooler_output", found)
    tokens = found if isinstance(found, torch.Tensor) else torch.stack(list(found))
    return tokens.reshape(len(pixels), -1, tokens.shape[-1])[:, : FRAMES * 4]


@family_wise
def test_saved_weights_come_back(root: Path, tmp_path: Path, family: str) -> None:
    model = face_model(family, root)
    model.save_pretrained(tmp_path)
    inputs = video_batch(family, KINDS["both in a text"])
    assert torch.equal(logits(load(tmp_path), inputs), logits(model, inputs))


@pytest.mark.parametrize("kinds", [("video", "video"), ("image video", "video image")])
@family_wise
def test_generation(root: Path, family: str, kinds: tuple[str, ...]) -> None:
    model = face_model(family, root)
    inputs = {key: value for key, value in video_batch(family, kinds).items() if key != "labels"}
    prompt, mask = inputs["input_ids"].shape[1], inputs["attention_mask"]
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    greedy = model.generate(**inputs, **options)
    assert torch.equal(model.generate(**inputs, **options, use_cache=False), greedy)
    assert torch.equal(model.generate(**inputs, **options, cache_implementation="static"), greedy)
    assert model.generate(**inputs, **options, num_beams=2).shape == greedy.shape
    whole = {**inputs, "input_ids": greedy, "attention_mask": torch.cat([mask, mask.new_ones(2, 5)], dim=1)}
    assert torch.equal(logits(model, whole)[:, prompt - 1 : -1].argmax(-1), greedy[:, prompt:])
    kept = logits(model, {**inputs, "logits_to_keep": 1})
    assert kept.shape[1] == 1 and torch.allclose(kept, logits(model, inputs)[:, -1:], atol=1e-5)
    assert not torch.allclose(logits(model, inputs), logits(model, without_maps(inputs)), atol=1e-3)


@family_wise
def test_gradient_checkpointing_gives_the_same_gradients(root: Path, family: str) -> None:
    inputs = video_batch(family, KINDS["video and image"])
    found = []
    for on in (False, True):
        model = face_model(family, root).train()
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**inputs, face_attributes=some_attributes(2)).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


@family_wise
def test_half_precision(root: Path, family: str) -> None:
    name = "torch_dtype" if transformers.__version__.startswith("4.55.") else "dtype"
    model = load(switched_on(family, root), **{name: torch.bfloat16})
    open_gates(model)
    inputs = video_batch(family, KINDS["video and image"])
    expected = logits(face_model(family, root), inputs)
    halved = {k: v.bfloat16() if k.startswith("pixel_values") else v for k, v in inputs.items()}
    output = model.train()(**halved, face_attributes=some_attributes(2))
    output.loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for n, p in model.named_parameters() if FACE in n)
    assert torch.allclose(output.logits.float(), expected, atol=0.3)


@family_wise
def test_the_knowledge_head_sees_the_mean_of_all_frames(root: Path, family: str) -> None:
    model = face_model(family, root)
    pixels = video_batch(family)["pixel_values_videos"]
    tokens: list[torch.Tensor] = []
    hook = model.model.multi_modal_projector.register_forward_hook(lambda module, args, out: tokens.append(out))
    found = model.attribute_probabilities(pixel_values_videos=pixels)
    hook.remove()
    (fused,) = tokens  # (videos * frames, P, D): all patches for OneVision, the pooled ones for LLaVA-NeXT-Video
    assert fused.shape[:2] == (2 * FRAMES, 16 if family == "llava_onevision" else 4)
    by_hand = torch.stack([fused[:FRAMES].mean((0, 1)), fused[FRAMES:].mean((0, 1))])
    expected = model.model.attribute_logits(by_hand[:, None]).sigmoid()
    assert found.shape == (2, 20) and torch.allclose(found, expected, atol=1e-5)
    one_more = torch.cat([pixels, pixels[:, :1]], dim=1)
    assert not torch.allclose(model.attribute_probabilities(pixel_values_videos=one_more), found, atol=1e-4)


@family_wise
def test_rows_of_attributes_are_the_images_then_the_videos(root: Path, family: str) -> None:
    """In whatever order their places stand in the texts: the gradient of a row reaches what it belongs to."""
    model = face_model(family, root)
    inputs = video_batch(family, ("video", "image"))
    for row, key in ((0, "pixel_values"), (1, "pixel_values_videos")):
        attributes = torch.full((2, 20), -1, dtype=torch.int8)
        attributes[row] = 1
        pixels = {k: inputs[k].clone().requires_grad_() for k in ("pixel_values", "pixel_values_videos")}
        output = model.model(**{**without_labels(inputs), **pixels}, face_attributes=attributes)
        output.face_losses["bce"].backward()
        reached = [k for k, v in pixels.items() if v.grad is not None and bool(v.grad.abs().sum() > 0)]
        assert reached == [key]
    with pytest.raises(FaceDataError, match="2 images and videos .* 20 attributes; a row for each image"):
        model(**inputs, face_attributes=some_attributes(3))


def without_labels(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in inputs.items() if key != "labels"}


@family_wise
def test_attribute_probabilities_of_images_and_videos(root: Path, family: str) -> None:
    model = face_model(family, root)
    inputs = video_batch(family, ("image video", "video"))
    images = {k: inputs[k] for k in ("pixel_values", "image_sizes")}
    videos = {"pixel_values_videos": inputs["pixel_values_videos"]}
    apart = [model.attribute_probabilities(**images), model.attribute_probabilities(**videos)]
    assert torch.allclose(model.attribute_probabilities(**images, **videos), torch.cat(apart), atol=1e-6)
    with pytest.raises(FaceHostError, match="no image and no video"):
        model.attribute_probabilities()


@family_wise
def test_videos_without_maps_in_a_batch_with_maps(root: Path, family: str) -> None:
    """255 throughout is the same as three channels."""
    model = face_model(family, root)
    inputs = video_batch(family)
    inputs["pixel_values_videos"][:, :, 3] = NO_MAP
    assert torch.equal(logits(model, inputs), logits(model, without_maps(inputs)))


@family_wise
def test_trainer_trains_evaluates_and_saves(root: Path, tmp_path: Path, family: str) -> None:
    rows = [{key: value[row] for key, value in video_batch(family).items()} for row in (0, 1)]
    data = [{**row, "face_attributes": labels} for row, labels in zip(rows, some_attributes(2), strict=True)] * 2
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=2, per_device_eval_batch_size=2, report_to=[],
        learning_rate=1e-2, save_strategy="no", use_cpu=True, disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    model = load(switched_on(family, root))
    trainer = type("Logging", (FaceLossMixin, transformers.Trainer), {})(model, arguments, train_dataset=data)
    trainer.train()
    assert all("loss_bce" in entry for entry in trainer.state.log_history if "loss" in entry)
    assert trainer.predict(data).metrics["test_loss"] > 0
    trainer.save_model(str(tmp_path / "out"))
    assert torch.equal(logits(load(tmp_path / "out"), video_batch(family)), logits(model.eval(), video_batch(family)))


@family_wise
def test_lora_with_the_projector_saved(root: Path, tmp_path: Path, family: str) -> None:
    """PEFT wraps the projector, on which maps and frames hang."""
    peft = pytest.importorskip("peft")
    targets = {"target_modules": r".*language_model.*\.(q_proj|v_proj)", "modules_to_save": ["multi_modal_projector"]}
    inputs = {**video_batch(family, KINDS["video and image"]), "face_attributes": some_attributes(2)}
    expected = face_model(family, root)(**inputs).loss
    model = peft.get_peft_model(face_model(family, root), peft.LoraConfig(**targets, r=4))
    assert model.eval()(**inputs).loss.item() == pytest.approx(expected.item(), abs=1e-5)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()(**inputs).loss.backward()
    optimizer.step()
    model.eval().save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(face_model(family, root), tmp_path).eval()
    with torch.no_grad():
        assert (
            torch.equal(again(**inputs).loss, model(**inputs).loss) and again(**inputs).loss.item() != expected.item()
        )


@pytest.mark.parametrize("mode", ["average", "max", "conv"])
def test_every_pooling_of_llava_next_video(root: Path, mode: str) -> None:
    """It pools features before the projector; the branch then works on the pooled grid, whichever way."""
    source = switched_on("llava_next_video", root, "vit-palette")
    config = transformers.AutoConfig.from_pretrained(source, spatial_pool_mode=mode)
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    plain_config = transformers.AutoConfig.from_pretrained(root / "llava_next_video", spatial_pool_mode=mode)
    plain = transformers.AutoModelForImageTextToText.from_config(plain_config).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if FACE not in k})
    inputs = video_batch("llava_next_video")
    assert torch.equal(logits(model, inputs), logits(plain, without_maps(inputs)))
    open_gates(model)
    assert not torch.allclose(logits(model, inputs), logits(model, without_maps(inputs)), atol=1e-3)
