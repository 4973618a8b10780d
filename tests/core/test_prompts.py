"""Fusions that read the prompt: the neutral state, masks, the weights of the encoders, and their size at 7B."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.fusion import FUSIONS, Auxiliary, Prompt
from llava_face_plugin.fusion.attention import CrossAttention
from llava_face_plugin.fusion.prompt import PromptReader, mean_of
from llava_face_plugin.fusion.soft_gate import WeightAdapter
from tests.core.standin import LLM, branch, facial_block, features, maps, open_gates, projector, prompts, run

SMALL: dict[str, dict[str, Any]] = {
    "soft-gate": {"type": "soft-gate", "hidden": 8, "width": 8},
    "text-query": {"type": "text-query", "width": 8, "heads": 2, "queries": 3},
}
both = pytest.mark.parametrize("fusion", SMALL.values(), ids=list(SMALL))


def opened(fusion: dict[str, Any], encoder: str = "facial") -> FaceBranch:
    face = branch(encoder, fusion)
    open_gates(face)
    return face


def tokens_of(face: FaceBranch, prompt: Prompt | None, auxiliary: Auxiliary | None = None) -> Tensor:
    return run(face, projector(), features(2, 4), maps(2), prompt=prompt, auxiliary=auxiliary)


def test_those_that_read_the_prompt_say_so() -> None:
    assert {name for name in FUSIONS if FUSIONS[name].reads_prompt} == set(SMALL)  # type: ignore[attr-defined]


@both
def test_no_prompt_is_a_prompt_of_which_nothing_is_known(fusion: dict[str, Any]) -> None:
    face = opened(fusion)
    tokens, mask, _ = prompts(2)
    unknown = tokens_of(face, Prompt(tokens, torch.zeros_like(mask)))
    torch.testing.assert_close(tokens_of(face, None), unknown)
    torch.testing.assert_close(tokens_of(face, Prompt(tokens[:, :0], mask[:, :0])), unknown)


@both
def test_the_prompt_matters_to_its_own_image(fusion: dict[str, Any]) -> None:
    face, (tokens, mask, _) = opened(fusion), prompts(2)
    known = tokens_of(face, Prompt(tokens, mask))  # image 1 has none
    other = tokens_of(face, Prompt(tokens.flip(-1), mask))
    assert not torch.allclose(known[0], other[0], atol=1e-3)
    torch.testing.assert_close(known[1], other[1])
    torch.testing.assert_close(known[1], tokens_of(face, None)[1])


@both
def test_masked_tokens_are_not_read(fusion: dict[str, Any]) -> None:
    """Padding, and answers: what is masked may be anything."""
    face, tokens = opened(fusion), prompts(2).tokens
    mask = torch.tensor([[True, True, False, True, False], [False, False, True, False, False]])
    noise = torch.where(mask[..., None], tokens, 1e4 * torch.randn(tokens.shape))
    torch.testing.assert_close(tokens_of(face, Prompt(tokens, mask)), tokens_of(face, Prompt(noise, mask)))


@both
def test_no_gradient_goes_into_the_vocabulary(fusion: dict[str, Any]) -> None:
    face, (tokens, mask, _) = opened(fusion), prompts(2)
    tokens.requires_grad_()
    tokens_of(face, Prompt(tokens, mask)).sum().backward()
    assert tokens.grad is None
    assert face.fusion.prompt.narrow.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


@both
def test_every_parameter_is_in_the_graph_without_a_prompt(fusion: dict[str, Any]) -> None:
    """One rank's batch may have prompts and another's none."""
    face = opened(fusion)
    tokens_of(face, None).sum().backward()
    assert [name for name, p in face.fusion.named_parameters() if p.grad is None] == []  # type: ignore[attr-defined]


@both
@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(torch.zeros(3, 4, LLM), torch.ones(3, 4, dtype=torch.bool)),
        Prompt(torch.zeros(2, 4, LLM), torch.ones(2, 5, dtype=torch.bool)),
        Prompt(torch.zeros(2, 4, LLM), torch.ones(2, 4, dtype=torch.bool), torch.tensor([0, 1, 1])),
    ],
    ids=["images", "length", "rows"],
)
def test_prompts_that_do_not_fit_are_refused(fusion: dict[str, Any], prompt: Prompt) -> None:
    with pytest.raises(FaceHostError, match=r"2 images need a prompt each, tokens \(S, T, D\)"):
        tokens_of(branch("facial", fusion), prompt)


@both
def test_rows_say_which_text_an_image_is_shown_with(fusion: dict[str, Any]) -> None:
    """Three texts, of which the last is shown with both images, and the others with none."""
    face, (tokens, mask, _) = opened(fusion), prompts(3)
    repeated = tokens_of(face, Prompt(tokens[[2, 2]], mask[[2, 2]]))
    torch.testing.assert_close(tokens_of(face, Prompt(tokens, mask, torch.tensor([2, 2]))), repeated)
    swapped = tokens_of(face, Prompt(tokens, mask, torch.tensor([1, 0])))
    torch.testing.assert_close(swapped, tokens_of(face, Prompt(tokens[[1, 0]], mask[[1, 0]])))


def test_a_text_is_narrowed_once() -> None:
    reader, seen = PromptReader(LLM, 8, neutral=1), []
    reader.narrow.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape)))
    tokens, mask, _ = prompts(2)
    text, _ = reader(Prompt(tokens, mask, torch.tensor([0] * 30 + [1] * 2)), 32)
    assert seen == [(2, 5, 8)] and len(text) == 32


@both
def test_the_weights_of_the_encoders_sum_to_one_and_are_told(fusion: dict[str, Any]) -> None:
    auxiliary = Auxiliary()
    tokens_of(opened(fusion, "part-embedding & facial"), prompts(2), auxiliary)
    weights = [value.item() for name, value in auxiliary.statistics.items() if name.startswith("weight_")]
    assert len(weights) == (3 if fusion["type"] == "soft-gate" else 2)
    assert sum(weights) == pytest.approx(1.0) and all(0 < w < 1 for w in weights)
    assert auxiliary.losses == {}


def test_mean_of_counts_only_what_is_known() -> None:
    text = torch.tensor([[[1.0], [3.0], [99.0]]])
    assert mean_of(text, torch.tensor([[True, True, False]])).tolist() == [[2.0]]


def test_the_neutral_state_stands_in_front() -> None:
    reader = PromptReader(LLM, 8, neutral=3)
    text, mask = reader(prompts(2), 2)
    assert text.shape == (2, 8, 8) and mask.tolist() == [[True] * 8, [True] * 3 + [False] * 5]
    assert torch.equal(text[0, :3], reader.neutral) and torch.equal(text[1, :3], reader.neutral)
    assert reader(None, 2)[0].shape == (2, 3, 8)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def test_weights_are_the_softmax_of_the_released_codes_scores() -> None:
    """s = w . GELU(W_v mean(V) + W_t t), of each of two encoders."""
    made = WeightAdapter({"a": 3, "b": 5}, 4)
    a, b, text = torch.randn(2, 6, 3), torch.randn(2, 6, 5), torch.randn(2, 4)
    asked = text.numpy() @ made.ask.weight.detach().numpy().T
    scores = []
    for name, x, score in (("a", a, made.score[0]), ("b", b, made.score[1])):
        look = made.look[name]
        assert isinstance(look, nn.Linear)
        seen = x.numpy().mean(1) @ look.weight.detach().numpy().T + look.bias.detach().numpy()
        scores.append(gelu(seen + asked) @ score.detach().numpy())
    e = np.exp(np.stack(scores, axis=1))
    found = made({"a": a, "b": b}, text).detach().numpy()
    np.testing.assert_allclose(found, e / e.sum(1, keepdims=True), atol=1e-6)


def test_soft_gate_is_the_weighted_sum_of_its_experts() -> None:
    face, auxiliary, plain, seen = opened(SMALL["soft-gate"]), Auxiliary(), projector(), features(2, 4)
    tokens = run(face, plain, seen, None, of=slice(0, 1), auxiliary=auxiliary)  # one image: its weights are the means
    fusion, rgb = face.fusion, torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(8))
    assert face.facial is not None
    g = nn.functional.layer_norm(seen[:1], (seen.shape[-1],))
    taps = face.facial(rgb[:1], 4, seen).flatten(2)
    w = auxiliary.statistics
    experts = fusion.experts  # type: ignore[attr-defined]
    mixed = w["weight_general"] * experts["general"](g) + w["weight_taps"] * experts["taps"](taps)
    torch.testing.assert_close(tokens, plain(seen[:1]) + fusion.gate * mixed)  # type: ignore[attr-defined]


def test_cross_attention_is_torchs() -> None:
    ours = CrossAttention(8, 2)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.ask.weight, ours.look.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.ask.bias, ours.look.bias]))
        theirs.out_proj.load_state_dict(ours.merge.state_dict())
    query, context = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True] * 5, [True, False, True, False, False]])
    c = ours.norm_context(context)
    expected = query + theirs(ours.norm_query(query), c, c, key_padding_mask=~mask)[0]
    torch.testing.assert_close(ours(query, context, mask), expected)


def test_the_chain_goes_from_the_first_tap_to_the_last() -> None:
    """The last level is asked with what the first gave: both taps matter to the facial tokens."""
    face = opened(SMALL["text-query"])
    fusion, taps = face.fusion, torch.randn(1, 16, 2, 64)
    text, mask = fusion.prompt(None, 1)  # type: ignore[attr-defined]
    empty = torch.zeros(1, 16, 0)

    def low(taps: Tensor) -> Tensor:
        from llava_face_plugin.fusion import FaceInputs

        return fusion.low(FaceInputs(empty, taps), text, mask)  # type: ignore[attr-defined]

    assert low(taps).shape == text.shape
    for t in range(2):
        other = taps.clone()
        other[:, :, t] = torch.randn(1, 16, 64)
        assert not torch.allclose(low(taps), low(other), atol=1e-4)


def at_7b(preset: str, **changes: Any) -> FaceBranch:
    """LLaVA-1.5-7B's shapes: CLIP-L features of 1024, an LLM of 4096; FaRL ViT-B/16."""
    with torch.device("meta"):
        return FaceBranch(FaceConfig.parse({"preset": preset, "facial": {"path": "farl.pth"}, **changes}), 1024, 4096)


def count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module is not None else 0


def mlp(a: int, b: int, c: int) -> int:
    return (a + 1) * b + (b + 1) * c


def test_parameters_of_favchat_at_7b_by_hand() -> None:
    z = 1024 + 4 * 768
    assert count(at_7b("favchat")) == 4 * mlp(z, 1024, 4096) + 4 * z + 4096 == 33_595_392
    soft = at_7b("favchat", fusion={"type": "soft-gate"})
    gate = 4096 * 512 + 512 + 512 * 512 + (1024 + 1) * 512 + (3072 + 1) * 512 + 2 * 512
    assert count(soft) == mlp(1024, 1024, 4096) + mlp(3072, 1024, 4096) + gate + 4096


def test_parameters_of_favchat_v6_at_7b_by_hand() -> None:
    d, attention = 512, 4 * 512 * 513 + 4 * 512
    qformer = 16 * d + mlp(d, d, d) + 2 * (attention + 2 * d + mlp(d, 4 * d, d)) + mlp(d, d, d)
    expected = 4096 * d + 16 * d  # prompt and its neutral state
    expected += 4 * mlp(768, d, d) + 4 * (2 * attention + d * (d + 1))  # levels, chain
    expected += 1025 * d + 2 * qformer + 3 * d * d + 2 * d + 2 * d  # general, Q-Formers, weights
    expected += 2 * d + attention + (d + 1) * 4096 + 4096  # norm, reading back, out, gate
    found = count(at_7b("favchat-v6"))
    assert found == expected and found < 100_000_000


def test_a_trained_encoder_is_counted() -> None:
    frozen = at_7b("favchat")
    trained = at_7b("favchat", facial={"path": "farl.pth", "trained": True})
    assert count(trained) - count(frozen) == count(trained.facial) == 85_797_888


def test_knowledge_and_segmentation_go_with_it() -> None:
    face = at_7b("favchat", segmentation={"encoder": "part-embedding"})
    assert face.segmentation is not None and face.facial is not None
    block = {"preset": "favchat", "facial": facial_block(), "segmentation": {"encoder": "part-embedding"}}
    assert FaceConfig.parse(block).segmentation.encoder == "part-embedding"


ABLATIONS: list[tuple[dict[str, Any], int]] = [
    ({"preset": "favchat"}, 33_595_392),
    ({"preset": "favchat", "fusion": {"type": "gated_add"}}, 7_349_248),
    ({"preset": "favchat", "facial": {"path": "x", "taps": [11]}}, 24_148_992),
    ({"preset": "favchat", "fusion": {"general": False}}, 29_396_992),
    ({"preset": "favchat", "facial": None}, 21_000_192),
    ({"preset": "favchat", "segmentation": {"encoder": "part-embedding"}}, 38_474_240),
    ({"preset": "favchat", "fusion": {"type": "soft-gate"}}, 17_056_256),
    ({"preset": "favchat-v6"}, 33_406_464),
]


@pytest.mark.parametrize(("block", "parameters"), ABLATIONS, ids=[str(p) for _, p in ABLATIONS])
def test_the_sizes_in_the_documents_are_those_of_the_code(block: dict[str, Any], parameters: int) -> None:
    """docs/method.md; those of ``favchat``, ``soft-gate`` and ``favchat-v6`` are counted by hand above."""
    assert count(at_7b(**block)) == parameters
    page = Path(__file__).resolve().parents[2] / "docs" / "method.md"
    assert f"{parameters:,}" in page.read_text(encoding="utf-8")
