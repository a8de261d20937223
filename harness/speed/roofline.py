"""What a model must do at least: FLOPs and bytes, counted operator by operator on the meta device.

Two times come of it, given a peak in FLOP/s and a bandwidth in bytes a second:

- the **floor**: the longer of all FLOPs at the peak and of the bytes that no implementation can avoid (each
  weight, input and output once; in training also gradients and the optimizer's state) at the bandwidth;
- the **unfused** time: the sum over operators, as PyTorch runs them one by one, of the longer of its FLOPs
  at the peak and of all its operands at the bandwidth. Fusing operators, or a cache that keeps a result until
  it is read, makes a model faster than this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

ADAM_BYTES = 4 * (4 + 3)  # a parameter: it, its gradient and two moments read, all but the gradient written


@dataclass(frozen=True)
class Operator:
    """One call of an operator: matrix-product FLOPs, and bytes of what it reads and writes."""

    name: str
    flops: int
    bytes: int


class OperatorCounter(TorchDispatchMode):
    """Lists the operators that run inside it; views move nothing and are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Operator] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not _is_view(func):
            read = {id(t): t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
            written = {id(t): t for t in tree_leaves(result) if isinstance(t, Tensor)}
            count = flop_registry.get(func._overloadpacket)
            flops = count(*args, **(kwargs or {}), out_val=result) if count else 0
            touched = [*read.values(), *(t for key, t in written.items() if key not in read)]
            name = str(func._overloadpacket).removeprefix("aten.")
            self.operators.append(Operator(name, int(flops), sum(map(distinct_bytes, touched))))
        return result


def _is_view(func: Any) -> bool:
    """Whether what comes back shares memory with an argument that it leaves as it is."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def distinct_bytes(tensor: Tensor) -> int:
    """Bytes of the places that a tensor has in memory; an expanded dimension has one."""
    places = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places *= size if stride else min(size, 1)
    return places * tensor.element_size()


def count_operators(call: Callable[[], object]) -> list[Operator]:
    """The operators of one call, its backward pass included if it makes one."""
    with OperatorCounter() as counter:
        call()
    return counter.operators


def unfused_seconds(operators: list[Operator], peak: float, bandwidth: float) -> float:
    """Each operator at the peak or at the bandwidth, whichever takes longer."""
    return sum(max(op.flops / peak, op.bytes / bandwidth) for op in operators)
