"""Sparse evaluation of per-token experts: an expert is computed only for the rows that its gate opens.

Two functions, for evaluation only (their result has no gradient). Both take gates (B, T, E), zero for an
inactive expert, and return (B, T, D):

    grouped_ffn(s, gates, up, down, gate_on="output")               a per-token FFN sliced into E experts
    grouped_swiglu(s, gates, gate_weight, up_weight, down_weight)   SwiGLU experts, no biases

To compute another kind of expert, pass `grouped_experts` a function from a group of rows to their hidden
values.

A group is the rows of one expert of one token. On a CPU, several groups of a token are copied into one
buffer, which has at most as many rows as the batch; each group is multiplied in place, and all are added to
the result at once. This needs few calls, and the buffer stays in the cache. A group is too small to divide
its matrix product among cores, so tokens are divided among threads instead. On a GPU, where every launch
costs time, all groups are one batched product, padded to the largest group.

Shapes
    B batch, T tokens, D token width, E experts of each token, M hidden width of these experts together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from baselines.contract import require_divisible
from baselines.layers import PerTokenLinear

Hidden = Callable[..., Tensor]


def grouped_ffn(
    s: Tensor,
    gates: Tensor,
    up: PerTokenLinear,
    down: PerTokenLinear,
    gate_on: Literal["output", "input"] = "output",
) -> Tensor:
    r"""A per-token FFN whose hidden width is cut into E experts, each multiplied by its gate.

    .. math:: v_t = b^{down}_t + \sum_{e: g_{te} \neq 0}
        g_{te} \, \mathrm{GELU}(s_t W^{up}_{te} + b^{up}_{te}) W^{down}_{te}

    With ``gate_on="input"`` the gate multiplies :math:`s_t W^{up}_{te}` instead.

    Raises ValueError if the gates do not fit ``s``, or E does not divide M.

    Shapes
        s (B, T, D), gates (B, T, E); up has weight (T, D, M), down (T, M, D). Returns (B, T, D).

    Cost
        4*D*M/E FLOPs for every gate that is not zero.

    Example
        >>> up, down = PerTokenLinear(3, 2, 4), PerTokenLinear(3, 4, 2)
        >>> grouped_ffn(torch.ones(5, 3, 2), torch.zeros(5, 3, 2), up, down).shape
        torch.Size([5, 3, 2])
    """
    num_experts = gates.shape[-1]
    weights = _columns(up.weight, num_experts), _columns(up.bias, num_experts)
    rows = _rows(down.weight, num_experts)
    return grouped_experts(_FFN[gate_on], s, gates, *weights, down=rows, bias=down.bias)


def grouped_swiglu(
    s: Tensor, gates: Tensor, gate_weight: Tensor, up_weight: Tensor, down_weight: Tensor
) -> Tensor:
    r"""SwiGLU experts without biases: the hidden width of each token is cut into E of them.

    .. math:: v_t = \sum_{e: g_{te} \neq 0} g_{te} \,
        (\mathrm{SiLU}(s_t W^{gate}_{te}) \odot s_t W^{up}_{te}) W^{down}_{te}

    Raises ValueError where the gates do not fit ``s``, or E does not divide M.

    Shapes
        s (B, T, D), gates (B, T, E); gate_weight and up_weight (T, D, M), down_weight (T, M, D).
        Returns (B, T, D).

    Cost
        6*D*M/E FLOPs for every gate that is not zero.
    """
    num_experts = gates.shape[-1]
    weights = _columns(gate_weight, num_experts), _columns(up_weight, num_experts)
    return grouped_experts(_swiglu, s, gates, *weights, down=_rows(down_weight, num_experts))


@torch.no_grad()
def grouped_experts(
    hidden: Hidden, s: Tensor, gates: Tensor, *weights: Tensor, down: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Sum over the active experts of each token of ``hidden(x, gate, *weights) @ down``, plus ``bias``.

    ``hidden`` applies the gate; no gate applies to ``bias``. ``hidden`` receives one group, or several
    stacked along leading dimensions: x (..., n, D), gate (..., n, 1), weights (..., a, b). It returns
    (..., n, m), with zeros where the gate is zero.

    Everything is computed in the dtype of ``s``, or that of autocast.

    Raises ValueError if the gates do not fit ``s``.

    Shapes
        s (B, T, D), gates (B, T, E), each weight (T, E, a, b), down (T, E, m, D), bias (T, 1, D).
        Returns (B, T, D), with tokens first in memory as in the result of `PerTokenLinear`.
    """
    if gates.dim() != 3 or gates.shape[:2] != s.shape[:2]:
        raise ValueError(
            f"gates have shape {tuple(gates.shape)} and tokens {tuple(s.shape)}; "
            "give one gate a row, token and expert"
        )
    device = s.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else s.dtype
    tokens = s.to(dtype).transpose(0, 1)  # (T, B, D)
    by_expert = gates.to(dtype).permute(1, 2, 0).contiguous()  # (T, E, B)
    cast = [weight.to(dtype) for weight in (*weights, down)]
    base = tokens.new_zeros(len(tokens), 1, 1) if bias is None else bias.to(dtype)
    run = _in_one_batch if _is_launch_bound(s.device) else _group_by_group
    return run(hidden, base, tokens, by_expert, cast).transpose(0, 1)


def _is_launch_bound(device: torch.device) -> bool:
    return device.type == "cuda"


def _group_by_group(hidden: Hidden, base: Tensor, s: Tensor, gates: Tensor, weights: list[Tensor]) -> Tensor:
    """``base`` (T, 1, D or 1) plus the experts of (T, B, D) tokens, on as many threads as PyTorch uses."""
    result = s.new_empty(s.shape)
    inference = torch.is_inference_mode_enabled()

    def run_token(token: int) -> None:
        # Each thread has its own grad mode and inference mode, so both are set again here.
        with torch.inference_mode(inference), torch.no_grad():
            result[token] = base[token]
            _add_token(hidden, result[token], s[token], gates[token], [weight[token] for weight in weights])

    threads = torch.get_num_threads()
    # A dispatch mode, such as the FLOP counter, sees only the thread in which it was entered.
    if min(threads, len(s)) == 1 or torch._C._len_torch_dispatch_stack() > 0:
        for token in range(len(s)):
            run_token(token)
        return result
    try:
        with ThreadPoolExecutor(min(threads, len(s)), initializer=_use_one_core) as pool:
            list(pool.map(run_token, range(len(s))))
    finally:
        torch.set_num_threads(threads)  # a worker's setting is also the default of later threads
    return result


def _use_one_core() -> None:
    torch.get_num_threads()  # the first call in a thread resets its number of threads
    torch.set_num_threads(1)


def _add_token(hidden: Hidden, result: Tensor, s: Tensor, gates: Tensor, weights: list[Tensor]) -> None:
    """Add the experts of one token: result and s (B, D), gates (E, B), weights (E, a, b) with down last."""
    experts, rows = gates.nonzero(as_tuple=True)  # sorted by expert
    sizes = torch.bincount(experts, minlength=len(gates)).tolist()
    active_gates = gates[experts, rows].unsqueeze(1).split(sizes)
    start = 0
    for first, last in _stretches(sizes, len(s)):
        stop = start + sum(sizes[first:last])
        x = s.index_select(0, rows[start:stop])
        for expert, group in enumerate(x.split(sizes[first:last]), first):
            if len(group):
                *own, down = (weight[expert] for weight in weights)
                # The group's input rows are no longer needed, so the output replaces them.
                torch.mm(hidden(group, active_gates[expert], *own), down, out=group)
        result.index_add_(0, rows[start:stop], x)
        start = stop


def _stretches(sizes: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges [first, last) of groups with at most ``most`` rows in total. No group exceeds it."""
    first = total = 0
    for group, size in enumerate(sizes):
        if total + size > most:
            yield first, group
            first, total = group, 0
        total += size
    yield first, len(sizes)


def _in_one_batch(hidden: Hidden, base: Tensor, s: Tensor, gates: Tensor, weights: list[Tensor]) -> Tensor:
    """The same result from one batch of groups, each padded to the largest with rows whose gate is zero."""
    num_tokens, batch, _ = s.shape
    result = s.new_empty(s.shape).copy_(base)
    active = gates != 0
    largest = int(active.sum(2).max()) if active.numel() else 0
    if largest == 0:
        return result
    rows = active.to(torch.uint8).topk(largest, dim=2).indices  # (T, E, n)
    sources = rows + batch * torch.arange(num_tokens, device=s.device).view(-1, 1, 1)
    x = s.reshape(-1, s.shape[2])[sources.flatten(0, 1)]  # (T*E, n, D)
    gate = gates.gather(2, rows).flatten(0, 1).unsqueeze(2)
    *own, down = (weight.flatten(0, 1) for weight in weights)
    y = hidden(x, gate, *own) @ down
    result.flatten(0, 1).index_add_(0, sources.flatten(), y.flatten(0, 1))
    return result


def _ffn_gated_at_output(x: Tensor, gate: Tensor, up: Tensor, bias: Tensor) -> Tensor:
    affine = torch.addmm if x.dim() == 2 else torch.baddbmm
    return functional.gelu(affine(bias, x, up)).mul_(gate)  # the hidden rows are narrower than the output


def _ffn_gated_at_input(x: Tensor, gate: Tensor, up: Tensor, bias: Tensor) -> Tensor:
    return functional.gelu(x @ up * gate + bias) * (gate != 0)


_FFN = {"output": _ffn_gated_at_output, "input": _ffn_gated_at_input}


def _swiglu(x: Tensor, gate: Tensor, gate_weight: Tensor, up: Tensor) -> Tensor:
    return functional.silu(x @ gate_weight) * (x @ up) * gate


def _columns(weight: Tensor, num_experts: int) -> Tensor:
    """(T, a, M) -> (T, E, a, M/E), a view."""
    require_divisible("hidden width", weight.shape[2], num_experts, "experts")
    return weight.unflatten(2, (num_experts, -1)).transpose(1, 2)


def _rows(weight: Tensor, num_experts: int) -> Tensor:
    """(T, M, b) -> (T, E, M/E, b), a view."""
    return weight.unflatten(1, (num_experts, -1))
