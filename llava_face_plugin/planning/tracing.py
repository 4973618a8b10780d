"""One training step run on shapes alone: which bytes are alive when most are, and how many FLOPs it takes."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from ..config import FaceConfig
from .branches import EvenShares
from .shapes import Shapes
from .skeleton import Skeleton, without_initial_values
from .work import Work

BACKWARD, GRADIENTS = "backward", "gradients"


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of living tensors under the name of the part that made them; keeps the fullest moment.

    Works with real tensors and with fake ones. Weights are not counted: hand them to ``leave_out``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part = ""
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._made_by: dict[int, str] = {}
        self._most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return out

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Tensors that are there before the step."""
        for tensor in tensors:
            self._made_by[tensor.untyped_storage()._cdata] = ""

    def move(self, tensor: Tensor, part: str) -> None:
        """Counts a tensor under another name."""
        key, size = tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes()
        if self._made_by.get(key):
            self.now[self._made_by[key]] -= size
            self.now[part] += size
            self._made_by[key] = part

    def forget_peak(self) -> None:
        """From here on a new fullest moment."""
        self.peak, self._most = self.now.copy(), self.now.total()

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._made_by:
            return
        self._made_by[key] = self.part
        self.now[self.part] += storage.nbytes()
        weakref.finalize(storage, self._gone, key, storage.nbytes())
        if (total := self.now.total()) > self._most:
            self._most, self.peak = total, self.now.copy()

    def _gone(self, key: int, size: int) -> None:
        self.now[self._made_by.pop(key)] -= size


@dataclass(frozen=True)
class Traced:
    """What one forward and backward of one process takes."""

    trained: dict[str, int]
    """Part -> trained parameters."""
    frozen: dict[str, int]
    llm_tokens: int
    """Of a sample."""
    flops: dict[str, int]
    """Part -> FLOPs of the forward, and ``backward``. A multiply-add is 2; attention without the causal saving."""
    alive: dict[str, int]
    """Part -> bytes at the fullest moment, weights left out; ``gradients`` where they are kept."""

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())


def trace(shapes: Shapes, work: Work, face: FaceConfig | None, keep_gradients: bool = False) -> Traced:
    """Runs one step without data or weights.

    Args:
        keep_gradients: each parameter's gradient stays from when it is made, as in plain torch. Otherwise it goes at
            once, as ZeRO-2 and 3 have it reduced and partitioned.

    Raises ``FaceConfigError`` for shapes that make no model.
    """
    live, flops = LiveBytes(), _FlopsByPart()
    even = EvenShares(face.fusion) if face is not None else nullcontext()
    with FakeTensorMode(), even, torch.device("cpu"):
        with without_initial_values():
            skeleton = Skeleton(shapes, work, face)
        modules = skeleton.modules()
        for module in modules.values():
            live.leave_out([*module.parameters(), *module.buffers()])
            _watch_gradients(module, live, keep_gradients)

        def enter(part: str) -> None:
            live.part = flops.part = part

        with flops, live:
            loss = skeleton.loss(enter)
            enter(BACKWARD)
            loss.backward()
    sizes = {part: [(p.numel(), p.requires_grad) for p in module.parameters()] for part, module in modules.items()}
    return Traced(
        trained={part: sum(n for n, trained in found if trained) for part, found in sizes.items()},
        frozen={part: sum(n for n, trained in found if not trained) for part, found in sizes.items()},
        llm_tokens=skeleton.sequence,
        flops=dict(flops.parts),
        alive=dict(live.peak),
    )


def _watch_gradients(module: nn.Module, live: LiveBytes, keep: bool) -> None:
    def made(parameter: Tensor) -> None:
        if keep and parameter.grad is not None:
            live.move(parameter.grad, GRADIENTS)
        elif not keep:
            parameter.grad = None

    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(made)


class _FlopsByPart(TorchDispatchMode):
    """FLOPs by torch's table, under the part that is running.

    Not torch's ``FlopCounterMode``: its hooks on modules hold what gradient checkpointing computes again alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part = ""
        self.parts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := _FORMULAS.get(func._overloadpacket)) is not None:
            self.parts[self.part] += count(*args, **(kwargs or {}), out_val=out)
        return out


_ATEN = torch.ops.aten


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape)


_FORMULAS: dict[Any, Any] = {
    **flop_registry,
    # What torch's table leaves out: the kernel that CPU tensors choose for sdpa.
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
