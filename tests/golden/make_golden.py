"""Makes ``face_branch.safetensors`` anew: ``python -m tests.golden.make_golden``. To be run when the branch is meant to
compute something else than before; then say so in the commit."""

from __future__ import annotations

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.encoders.backbones import denormalise, normalise
from llava_face_plugin.fusion import Layers
from llava_face_plugin.labels import NO_MAP
from tests.golden.golden import CASES, FILE, GRID, LLM, NORMALISATIONS, TILES, VISION, WORDS, block, tower

STEPS = 20


def make_images(random: torch.Generator) -> Tensor:
    """(5, 4, 14, 14): each value is four pixels wide and high once read."""
    pixels = torch.randn(TILES, 3, 14, 14, generator=random).half().float()
    maps = torch.randint(0, 19, (TILES, 1, 14, 14), generator=random).float()
    maps[-1] = NO_MAP
    return torch.cat([pixels, maps], dim=1)


def trained(face: FaceBranch, layers: Layers, images: Tensor, embedding: Tensor, kind: str) -> None:
    """A few steps towards random tokens and labels, so that every parameter has moved."""
    random = torch.Generator().manual_seed(3)
    optimizer = torch.optim.AdamW(face.parameters(), lr=2e-2)
    tokens, _ = outputs(face, layers, images, embedding, kind)
    target = torch.randn(tokens.shape, generator=random)
    labels = torch.randint(0, 2, (TILES, 3), generator=random, dtype=torch.int8)
    for _ in range(STEPS):
        tokens, logits = outputs(face, layers, images, embedding, kind)
        loss = (tokens - target).square().mean() + face.knowledge.weighted(face.knowledge.losses(logits, labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def outputs(face: FaceBranch, layers: Layers, images: Tensor, embedding: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Fused tokens (5, P, D) and attribute logits (5, 3). There is no prompt, as where attributes are asked for."""
    pixels, maps = images[:, :3], images[:, 3]
    rgb = denormalise(pixels, *NORMALISATIONS[kind])
    tokens = face(layers, tower(pixels), maps, lambda rgb: tower(normalise(rgb, *NORMALISATIONS[kind])), rgb=rgb)
    ids, _ = face.knowledge.prompt_tokens(tokens.device)
    return tokens, face.knowledge(tokens, embedding[ids])


def main() -> None:
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    small = make_images(random)
    images = small.repeat_interleave(4, -1).repeat_interleave(4, -2)
    projector = nn.Sequential(nn.Linear(VISION, LLM), nn.GELU(), nn.Linear(LLM, LLM))
    layers = Layers(list(projector))
    embedding = torch.randn(WORDS, LLM, generator=random)
    stored = {"images": small, "embedding": embedding}
    stored |= {f"projector/{key}": value for key, value in projector.state_dict().items()}
    for name in CASES:
        face = FaceBranch(FaceConfig.parse(block(name)), VISION, LLM)
        trained(face, layers, images, embedding, "clip")
        stored |= {f"{name}/branch/{key}": value for key, value in face.state_dict().items()}
        for kind in NORMALISATIONS:
            with torch.no_grad():
                tokens, logits = outputs(face, layers, images, embedding, kind)
            stored |= {f"{name}/{kind}/tokens": tokens, f"{name}/{kind}/probabilities": logits.sigmoid()}
    save_file({key: value.detach().contiguous().clone() for key, value in stored.items()}, FILE)
    print(f"{FILE}: {FILE.stat().st_size} bytes, {len(stored)} tensors, {GRID}x{GRID} patches")


if __name__ == "__main__":
    main()
