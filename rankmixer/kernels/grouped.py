"""Really sparse evaluation of per-token experts: what no gate opens is not computed.

Two calls, for evaluation only (their result has no gradient). Both take gates (B, T, E), zero for an inactive
expert, and return (B, T, D):

    grouped_ffn(s, gates, up, down, gate_on="output")               a per-token FFN sliced into E experts
    grouped_swiglu(s, gates, gate_weight, up_weight, down_weight)   SwiGLU experts, no biases

Another kind of expert is a function from a group of rows to their hidden values, handed to `grouped_experts`.

A group is the rows of one expert of one token. On a CPU a token's groups are gathered together, as many as
are no more rows than the batch has, multiplied one by one where they lie, and added back together: few calls,
whose buffers stay in the cache. Groups are too small to share a matrix product among cores; tokens are shared
among threads instead. On a GPU, where launches count, all groups are one batched product, padded to the
largest group.

Shapes
    B batch, T tokens, D token width, E experts a token, M hidden width of a token's experts together.
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
    r"""A per-token FFN whose hidden width is sliced into E experts, of which the gates choose.

    .. math:: v_t = b^{down}_t + \sum_{e: g_{te} \neq 0}
        g_{te} \, \mathrm{GELU}(s_t W^{up}_{te} + b^{up}_{te}) W^{down}_{te}

    With ``gate_on="input"`` the gate multiplies :math:`s_t W^{up}_{te}` instead.

    Raises ValueError where the gates do not fit ``s``, or E does not divide M.

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
    r"""SwiGLU experts without biases, each token's hidden width sliced into E of them.

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
    """Sum over a token's active experts of ``hidden(x, gate, *weights) @ down``, and ``bias``, never gated.

    ``hidden`` applies the gate. It sees rows of one token, or such groups stacked in front: x (..., n, D),
    gate (..., n, 1), weights (..., a, b); it returns (..., n, m), and zeros where the gate is zero.

    Everything is computed in the dtype of ``s``, or that of autocast.

    Raises ValueError where the gates do not fit ``s``.

    Shapes
        s (B, T, D), gates (B, T, E), each weight (T, E, a, b), down (T, E, m, D), bias (T, 1, D).
        Returns (B, T, D), tokens first in memory, as `PerTokenLinear` leaves them.
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
    """Base (T, 1, D or 1) and the experts of (T, B, D) tokens, on as many threads as torch has."""
    result = s.new_empty(s.shape)
    inference = torch.is_inference_mode_enabled()

    def run_token(token: int) -> None:
        # Grad and inference mode belong to a thread, so they are set again in each.
        with torch.inference_mode(inference), torch.no_grad():
            result[token] = base[token]
            _add_token(hidden, result[token], s[token], gates[token], [weight[token] for weight in weights])

    threads = torch.get_num_threads()
    # A dispatch mode, such as the FLOP counter, sees only its own thread.
    if min(threads, len(s)) == 1 or torch._C._len_torch_dispatch_stack() > 0:
        for token in range(len(s)):
            run_token(token)
        return result
    try:
        with ThreadPoolExecutor(min(threads, len(s)), initializer=_use_one_core) as pool:
            list(pool.map(run_token, range(len(s))))
    finally:
        torch.set_num_threads(threads)  # a worker's setting is also the default of threads to come
    return result


def _use_one_core() -> None:
    torch.get_num_threads()  # the first call in a thread resets its number
    torch.set_num_threads(1)


def _add_token(hidden: Hidden, result: Tensor, s: Tensor, gates: Tensor, weights: list[Tensor]) -> None:
    """Add one token's experts: result and s (B, D), gates (E, B), each weight (E, a, b), down the last."""
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
                torch.mm(hidden(group, active_gates[expert], *own), down, out=group)  # its rows are done with
        result.index_add_(0, rows[start:stop], x)
        start = stop


def _stretches(sizes: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Successive ranges [first, last) of groups, at most ``most`` rows together; no group has more."""
    first = total = 0
    for group, size in enumerate(sizes):
        if total + size > most:
            yield first, group
            first, total = group, 0
        total += size
    yield first, len(sizes)


def _in_one_batch(hidden: Hidden, base: Tensor, s: Tensor, gates: Tensor, weights: list[Tensor]) -> Tensor:
    """The same as one batch of groups, each filled up to the largest with rows whose gate is zero."""
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
    return functional.gelu(affine(bias, x, up)).mul_(gate)  # gated where the rows are narrow


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
