"""Names of tensors, by hand; and the parts of a configuration that the generations write differently."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llava_face_plugin.checkpoints.folder import canonical, projector_names
from llava_face_plugin.checkpoints.language import portable
from llava_face_plugin.checkpoints.names import Part, name_of, part_of, tower_part
from llava_face_plugin.checkpoints.shards import Piece, write_pieces
from llava_face_plugin.checkpoints.weights import Weights, whole_model
from llava_face_plugin.errors import FaceConfigError

PAIRS = [
    ("model.embed_tokens.weight", "language_model.model.embed_tokens.weight"),
    ("model.layers.3.mlp.down_proj.weight", "language_model.model.layers.3.mlp.down_proj.weight"),
    ("model.norm.weight", "language_model.model.norm.weight"),
    ("lm_head.weight", "language_model.lm_head.weight"),
    ("model.image_newline", "image_newline"),
    ("model.mm_projector.0.weight", "multi_modal_projector.linear_1.weight"),
    ("model.mm_projector.2.bias", "multi_modal_projector.linear_2.bias"),
    ("model.mm_projector.face.fusion.gate", "multi_modal_projector.face.fusion.gate"),
    (
        "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias",
        "vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias",
    ),
    (
        "model.vision_tower.vision_tower.vision_model.pre_layrnorm.weight",
        "vision_tower.vision_model.pre_layrnorm.weight",
    ),
]


@pytest.mark.parametrize(("llava", "hf"), PAIRS)
def test_each_name_has_its_counterpart(llava: str, hf: str) -> None:
    part = part_of(llava, "llava")
    assert part is not None and part == part_of(hf, "transformers")
    assert name_of(part, "llava") == llava and name_of(part, "transformers") == hf


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        (
            "model.language_model.layers.0.input_layernorm.weight",
            "language_model.model.layers.0.input_layernorm.weight",
        ),
        ("model.multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
        ("model.vision_tower.embeddings.class_embedding", "vision_tower.vision_model.embeddings.class_embedding"),
        ("model.image_newline", "image_newline"),
        ("lm_head.weight", "language_model.lm_head.weight"),
    ],
)
def test_both_generations_names_are_read(newer: str, older: str) -> None:
    assert part_of(newer, "transformers") == part_of(older, "transformers") is not None


def test_buffers_go_and_strangers_are_refused() -> None:
    assert part_of("model.layers.0.self_attn.rotary_emb.inv_freq", "llava") is None
    assert part_of("vision_tower.vision_model.embeddings.position_ids", "transformers") is None
    assert tower_part("text_model.embeddings.token_embedding.weight") is None and tower_part("logit_scale") is None
    assert tower_part("vision_model.post_layernorm.bias") == Part("tower", "post_layernorm.bias")
    with pytest.raises(FaceConfigError, match=r"'model.vision_resampler.x'"):
        part_of("model.vision_resampler.x", "llava")


def test_the_projector_is_found_in_every_layout() -> None:
    names = [
        "base_model.model.model.mm_projector.face.fusion.gate", "base_model.model.model.mm_projector.0.weight",
        "model.mm_projector.2.weight", "model.norm.weight", "multi_modal_projector.linear_2.bias",
    ]  # fmt: skip
    assert projector_names(names) == {
        "face.fusion.gate": names[0], "linear_1.weight": names[1], "linear_2.weight": names[2],
        "linear_2.bias": names[4],
    }  # fmt: skip
    assert canonical("model.mm_projector.4.weight") == "linear_3.weight" and canonical("lm_head.weight") is None


def test_rope_is_written_so_that_both_generations_read_it() -> None:
    plain = {"hidden_size": 8, "rope_theta": 1e6}
    assert portable(plain) == plain
    newer = {"hidden_size": 8, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    assert portable(newer) == {"hidden_size": 8, "rope_theta": 1e6, "rope_scaling": None}
    linear = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}}
    assert portable(linear) == {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}


def test_rows_are_cut_and_padded_with_their_mean(tmp_path: Path) -> None:
    torch.save({"w": torch.tensor([[1.0, 2.0], [3.0, 6.0]])}, tmp_path / "pytorch_model.bin")
    weights = whole_model(tmp_path)
    assert isinstance(weights, Weights) and weights["w"].nbytes == 16
    write_pieces(tmp_path / "x", [Piece("longer", weights, "w", 4), Piece("shorter", weights, "w", 1)])
    written = whole_model(tmp_path / "x")
    assert written is not None
    assert written.read("longer").tolist() == [[1, 2], [3, 6], [2, 4], [2, 4]]
    assert written.read("shorter").tolist() == [[1, 2]]


def test_files_older_than_torch_1_6_are_read_too(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).view(2, 3)
    torch.save({"w": tensor}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    weights = whole_model(tmp_path)
    assert weights is not None and torch.equal(weights.read("w"), tensor)
