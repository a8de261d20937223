"""What every architecture costs, written out by hand: the other side of the counted figures.

An architecture's entry takes its Config's fields, defaults included, so that a default cannot
change unnoticed.

Notation
    T tokens, d token width; FLOPs are forward, a sample, GEMMs alone, a multiply-add is two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class ClosedForm:
    """Each function takes (T, d) and the fields of the Config; ``configs`` are sizes to try it at."""

    params: Callable[..., int]
    flops: Callable[..., int]
    output_dim: Callable[..., int]
    configs: tuple[dict[str, int], ...]


def mlp_weights(in_dim: int, hidden_dim: int, num_layers: int) -> int:
    return in_dim * hidden_dim + (num_layers - 1) * hidden_dim**2


def autoint_widths(d: int, model_dim: int, last_dim: int, num_layers: int) -> list[tuple[int, int]]:
    widths = [d] + [model_dim] * (num_layers - 1) + [last_dim]
    return list(pairwise(widths))


DLRM_MLP = ClosedForm(
    params=lambda T, d, hidden_dim, num_layers=3: (
        mlp_weights(T * d, hidden_dim, num_layers) + num_layers * hidden_dim
    ),
    flops=lambda T, d, hidden_dim, num_layers=3: 2 * mlp_weights(T * d, hidden_dim, num_layers),
    output_dim=lambda T, d, hidden_dim, num_layers=3: hidden_dim,
    configs=({"hidden_dim": 8}, {"hidden_dim": 24, "num_layers": 1}, {"hidden_dim": 640, "num_layers": 4}),
)

DEEPFM = ClosedForm(
    params=lambda T, d, hidden_dim, num_layers=3: (
        T * d + 1 + mlp_weights(T * d, hidden_dim, num_layers) + num_layers * hidden_dim
    ),
    flops=lambda T, d, hidden_dim, num_layers=3: 2 * T * d + 2 * mlp_weights(T * d, hidden_dim, num_layers),
    output_dim=lambda T, d, hidden_dim, num_layers=3: 2 + hidden_dim,
    configs=DLRM_MLP.configs,
)

DCN = ClosedForm(
    params=lambda T, d, hidden_dim, num_layers=3, num_cross_layers=3: (
        2 * num_cross_layers * T * d + mlp_weights(T * d, hidden_dim, num_layers) + num_layers * hidden_dim
    ),
    flops=lambda T, d, hidden_dim, num_layers=3, num_cross_layers=3: (
        2 * num_cross_layers * T * d + 2 * mlp_weights(T * d, hidden_dim, num_layers)
    ),
    output_dim=lambda T, d, hidden_dim, num_layers=3, num_cross_layers=3: T * d + hidden_dim,
    configs=(
        {"hidden_dim": 8},
        {"hidden_dim": 24, "num_cross_layers": 1},
        {"hidden_dim": 640, "num_layers": 2},
    ),
)


def cross_map_weights(dim: int, rank: int | None) -> int:
    """One full matrix, or two thin ones."""
    return dim**2 if rank is None else 2 * dim * rank


def dcnv2_cross(dim, rank, num_cross_layers, num_experts):
    """Weights of the cross network, each used once a sample; and those used once a layer."""
    if num_experts == 1:
        return num_cross_layers * cross_map_weights(dim, rank), 0
    return num_cross_layers * num_experts * (2 * dim * rank + rank**2), num_experts * dim


def dcnv2_params(T, d, rank, hidden_dim, num_layers=3, num_cross_layers=2, num_experts=1, stacked=False):
    weights, shared = dcnv2_cross(T * d, rank, num_cross_layers, num_experts)
    deep = mlp_weights(T * d, hidden_dim, num_layers) + num_layers * hidden_dim
    return weights + shared + num_cross_layers * T * d + deep


def dcnv2_flops(T, d, rank, hidden_dim, num_layers=3, num_cross_layers=2, num_experts=1, stacked=False):
    weights, shared = dcnv2_cross(T * d, rank, num_cross_layers, num_experts)
    return 2 * (weights + num_cross_layers * shared + mlp_weights(T * d, hidden_dim, num_layers))


DCNV2 = ClosedForm(
    params=dcnv2_params,
    flops=dcnv2_flops,
    output_dim=lambda T, d, hidden_dim, stacked=False, **_: (0 if stacked else T * d) + hidden_dim,
    configs=(
        {"rank": 2, "hidden_dim": 8},
        {"rank": None, "hidden_dim": 24, "num_layers": 1},
        {"rank": 6, "hidden_dim": 24, "num_experts": 4, "num_cross_layers": 3},
        {"rank": 160, "hidden_dim": 640, "num_layers": 2, "stacked": True},
    ),
)


def rdcn_params(T, d, rank, hidden_dim, num_layers=3, num_cross_layers=2, sub_token_dim=1, plain_branch=True):
    dim = T * d
    attention, plain = 4 * dim * rank + dim + 1, (2 * dim * rank + dim) * plain_branch
    deep = mlp_weights((1 + plain_branch) * dim, hidden_dim, num_layers) + num_layers * hidden_dim
    return num_cross_layers * (attention + plain) + deep


def rdcn_flops(T, d, rank, hidden_dim, num_layers=3, num_cross_layers=2, sub_token_dim=1, plain_branch=True):
    dim = T * d
    attention, plain = 8 * dim * rank + 4 * rank**2 // sub_token_dim, 4 * dim * rank * plain_branch
    deep = 2 * mlp_weights((1 + plain_branch) * dim, hidden_dim, num_layers)
    return num_cross_layers * (attention + plain) + deep


RDCN = ClosedForm(
    params=rdcn_params,
    flops=rdcn_flops,
    output_dim=lambda T, d, hidden_dim, **_: hidden_dim,
    configs=(
        {"rank": 2, "hidden_dim": 8},
        {"rank": 24, "hidden_dim": 24, "num_cross_layers": 3, "sub_token_dim": 4},
        {"rank": 160, "hidden_dim": 640, "num_layers": 2, "plain_branch": False},
    ),
)

GDCN = ClosedForm(
    params=lambda T, d, rank, hidden_dim, num_layers=3, num_cross_layers=3, stacked=False: (
        num_cross_layers * (2 * cross_map_weights(T * d, rank) + T * d)
        + mlp_weights(T * d, hidden_dim, num_layers)
        + num_layers * hidden_dim
    ),
    flops=lambda T, d, rank, hidden_dim, num_layers=3, num_cross_layers=3, stacked=False: (
        4 * num_cross_layers * cross_map_weights(T * d, rank) + 2 * mlp_weights(T * d, hidden_dim, num_layers)
    ),
    output_dim=lambda T, d, hidden_dim, stacked=False, **_: (0 if stacked else T * d) + hidden_dim,
    configs=(
        {"rank": 2, "hidden_dim": 8},
        {"rank": None, "hidden_dim": 24, "num_layers": 1},
        {"rank": 160, "hidden_dim": 640, "num_cross_layers": 2, "stacked": True},
    ),
)

AUTOINT = ClosedForm(
    params=lambda T, d, model_dim, last_dim, num_layers=3, num_heads=2, layer_norm=True: sum(
        4 * a * b + 2 * b * layer_norm for a, b in autoint_widths(d, model_dim, last_dim, num_layers)
    ),
    flops=lambda T, d, model_dim, last_dim, num_layers=3, num_heads=2, layer_norm=True: sum(
        8 * T * a * b + 4 * T**2 * b for a, b in autoint_widths(d, model_dim, last_dim, num_layers)
    ),
    output_dim=lambda T, d, model_dim, last_dim, num_layers=3, num_heads=2, layer_norm=True: T * last_dim,
    configs=(
        {"model_dim": 8, "last_dim": 6},
        {"model_dim": 8, "last_dim": 6, "layer_norm": False},
        {"model_dim": 24, "last_dim": 32, "num_layers": 2, "num_heads": 8},
        {"model_dim": 640, "last_dim": 512, "num_layers": 4},
    ),
)

TRANSFORMER = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4: (
        T * (d * model_dim + model_dim)
        + num_layers * (4 * model_dim**2 + 2 * model_dim * ffn_dim + ffn_dim + 9 * model_dim)
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4: (
        2 * T * d * model_dim
        + num_layers * (8 * T * model_dim**2 + 4 * T**2 * model_dim + 4 * T * model_dim * ffn_dim)
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4: model_dim,
    configs=(
        {"model_dim": 8, "ffn_dim": 30},
        {"model_dim": 24, "ffn_dim": 96, "num_layers": 1, "num_heads": 8},
        {"model_dim": 640, "ffn_dim": 2000, "num_layers": 3},
    ),
)


def hiformer_rank(model_dim, composite, rank):
    """What stands in 6*T*D*r for the projections; heterogeneous ones have 3*T*D**2."""
    return rank or max(1, model_dim // 2) if composite else model_dim / 2


HIFORMER = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4, composite=True, rank=None: (
        T * (d * model_dim + model_dim)
        + num_layers
        * (
            6 * T * model_dim * hiformer_rank(model_dim, composite, rank)
            + T * model_dim**2
            + 2 * T * model_dim * ffn_dim
            + T * (5 * model_dim + ffn_dim)
            + 4 * model_dim
        )
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4, composite=True, rank=None: (
        2 * T * d * model_dim
        + num_layers
        * (
            12 * T * model_dim * hiformer_rank(model_dim, composite, rank)
            + 2 * T * model_dim**2
            + 4 * T**2 * model_dim
            + 4 * T * model_dim * ffn_dim
        )
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4, composite=True, rank=None: (
        model_dim
    ),
    configs=(
        {"model_dim": 8, "ffn_dim": 30},
        {"model_dim": 24, "ffn_dim": 96, "num_layers": 1, "num_heads": 8, "composite": False},
        {"model_dim": 24, "ffn_dim": 50, "rank": 7},
        {"model_dim": 640, "ffn_dim": 2000, "num_layers": 3},
    ),
)

MASKNET = ClosedForm(
    params=lambda T, d, hidden_dim, mask_dim, num_blocks=3, num_layers=2: (
        2 * T * d
        + num_blocks * (2 * T * d * mask_dim + mask_dim + T * d + T * d * hidden_dim + 2 * hidden_dim)
        + mlp_weights(num_blocks * hidden_dim, hidden_dim, num_layers)
        + num_layers * hidden_dim
    ),
    flops=lambda T, d, hidden_dim, mask_dim, num_blocks=3, num_layers=2: (
        2 * num_blocks * T * d * (2 * mask_dim + hidden_dim)
        + 2 * mlp_weights(num_blocks * hidden_dim, hidden_dim, num_layers)
    ),
    output_dim=lambda T, d, hidden_dim, mask_dim, num_blocks=3, num_layers=2: hidden_dim,
    configs=(
        {"hidden_dim": 8, "mask_dim": 12},
        {"hidden_dim": 24, "mask_dim": 96, "num_blocks": 1, "num_layers": 1},
        {"hidden_dim": 640, "mask_dim": 500, "num_blocks": 2, "num_layers": 4},
    ),
)


HSTU = ClosedForm(
    params=lambda T, d, model_dim, value_dim, num_layers=2, num_heads=2: (
        T * (d * model_dim + model_dim)
        + num_layers * (2 * model_dim**2 + 3 * model_dim * value_dim + 5 * model_dim + 4 * value_dim)
        + 2 * model_dim
    ),
    flops=lambda T, d, model_dim, value_dim, num_layers=2, num_heads=2: (
        2 * T * d * model_dim
        + num_layers
        * (4 * T * model_dim**2 + 6 * T * model_dim * value_dim + 2 * T**2 * (model_dim + value_dim))
    ),
    output_dim=lambda T, d, model_dim, value_dim, num_layers=2, num_heads=2: model_dim,
    configs=(
        {"model_dim": 8, "value_dim": 6},
        {"model_dim": 24, "value_dim": 40, "num_layers": 1, "num_heads": 8},
        {"model_dim": 640, "value_dim": 512, "num_layers": 3},
    ),
)

FINALMLP = ClosedForm(
    params=lambda T, d, first_dim, second_dim, num_layers=3, num_heads=2: (
        sum(
            T * d + mlp_weights(T * d, width, num_layers) + num_layers * width
            for width in (first_dim, second_dim)
        )
        + first_dim * second_dim // num_heads
    ),
    flops=lambda T, d, first_dim, second_dim, num_layers=3, num_heads=2: (
        2 * mlp_weights(T * d, first_dim, num_layers)
        + 2 * mlp_weights(T * d, second_dim, num_layers)
        + 2 * first_dim * second_dim // num_heads
    ),
    output_dim=lambda T, d, first_dim, second_dim, num_layers=3, num_heads=2: (
        first_dim + second_dim + num_heads
    ),
    configs=(
        {"first_dim": 8, "second_dim": 6},
        {"first_dim": 24, "second_dim": 32, "num_layers": 1, "num_heads": 8},
        {"first_dim": 640, "second_dim": 513, "num_layers": 4, "num_heads": 1},
    ),
)


XDEEPFM = ClosedForm(
    params=lambda T, d, num_maps, hidden_dim, num_cin_layers=3, num_layers=3: (
        T * d
        + 1
        + T**2 * num_maps
        + (num_cin_layers - 1) * T * num_maps**2
        + mlp_weights(T * d, hidden_dim, num_layers)
        + num_layers * hidden_dim
    ),
    flops=lambda T, d, num_maps, hidden_dim, num_cin_layers=3, num_layers=3: (
        2 * T * d
        + 2 * d * (T**2 * num_maps + (num_cin_layers - 1) * T * num_maps**2)
        + 2 * mlp_weights(T * d, hidden_dim, num_layers)
    ),
    output_dim=lambda T, d, num_maps, hidden_dim, num_cin_layers=3, num_layers=3: (
        1 + num_cin_layers * num_maps + hidden_dim
    ),
    configs=(
        {"num_maps": 8, "hidden_dim": 12},
        {"num_maps": 24, "hidden_dim": 96, "num_cin_layers": 1, "num_layers": 1},
        {"num_maps": 100, "hidden_dim": 640, "num_cin_layers": 4, "num_layers": 2},
    ),
)


UNIMIXER = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2, global_mixing=False: (
        T * (d * model_dim + model_dim)
        + num_layers
        * (
            model_dim**2
            + (T**4 if global_mixing else T**3)
            + 2 * T * model_dim * ffn_dim
            + T * (ffn_dim + model_dim)
            + 4 * model_dim
        )
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2, global_mixing=False: (
        2 * T * d * model_dim
        + num_layers
        * (2 * model_dim**2 + 2 * (T**3 if global_mixing else T**2) * model_dim + 4 * T * model_dim * ffn_dim)
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2, global_mixing=False: model_dim,
    configs=(
        {"model_dim": 16, "ffn_dim": 30},
        {"model_dim": 48, "ffn_dim": 96, "num_layers": 1, "global_mixing": True},
        {"model_dim": 768, "ffn_dim": 2160, "num_layers": 3},
    ),
)

RANKMIXER = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2: (
        T * (d * model_dim + model_dim)
        + num_layers * (2 * T * model_dim * ffn_dim + T * (ffn_dim + model_dim) + 4 * model_dim)
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2: (
        2 * T * d * model_dim + num_layers * 4 * T * model_dim * ffn_dim
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2: model_dim,
    configs=(
        {"model_dim": 16, "ffn_dim": 30},
        {"model_dim": 48, "ffn_dim": 96, "num_layers": 1},
        {"model_dim": 768, "ffn_dim": 2160, "num_layers": 3},
    ),
)


def tokenmixer_large_hidden(T, ffn_dim, num_heads=None, num_layers=2):
    """Sum over all blocks and both stages of tokens * their width / D * their hidden width."""
    heads = num_heads or T
    return num_layers * T * (math.ceil(ffn_dim * T / heads) + ffn_dim)


TOKENMIXER_LARGE = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=None, global_token=True: (
        (T + (T - 1) * global_token) * d * model_dim
        + T * model_dim
        + 3 * model_dim * tokenmixer_large_hidden(T, ffn_dim, num_heads, num_layers)
        + (2 * num_layers + 1) * model_dim
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=None, global_token=True: (
        2 * (T + (T - 1) * global_token) * d * model_dim
        + 6 * model_dim * tokenmixer_large_hidden(T, ffn_dim, num_heads, num_layers)
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=None, global_token=True: model_dim,
    configs=(
        {"model_dim": 16, "ffn_dim": 30},
        {"model_dim": 48, "ffn_dim": 96, "num_layers": 1, "num_heads": 4},
        {"model_dim": 32, "ffn_dim": 7, "num_heads": 32},
        {"model_dim": 256, "ffn_dim": 300, "num_layers": 3, "num_heads": 8},
    ),
)


def wukong_layers(T, num_embeddings, num_layers):
    """Each layer's tokens in, and whether its residual is compressed."""
    return [(T, 1)] + [(2 * num_embeddings, 0)] * (num_layers - 1)


WUKONG = ClosedForm(
    params=lambda T, d, num_embeddings, hidden_dim, num_layers=2, num_mlp_layers=2, fm_rank=None: sum(
        3 * n * (fm_rank or num_embeddings)
        + mlp_weights(n * (fm_rank or num_embeddings), hidden_dim, num_mlp_layers)
        + num_mlp_layers * hidden_dim
        + (hidden_dim + 1) * num_embeddings * d
        + (1 + 2 * compressed) * n * num_embeddings
        + 2 * d
        for n, compressed in wukong_layers(T, num_embeddings, num_layers)
    ),
    flops=lambda T, d, num_embeddings, hidden_dim, num_layers=2, num_mlp_layers=2, fm_rank=None: sum(
        4 * n * d * (fm_rank or num_embeddings)
        + 2 * mlp_weights(n * (fm_rank or num_embeddings), hidden_dim, num_mlp_layers)
        + 2 * hidden_dim * num_embeddings * d
        + (2 + 4 * compressed) * n * num_embeddings * d
        for n, compressed in wukong_layers(T, num_embeddings, num_layers)
    ),
    output_dim=lambda T, d, num_embeddings, hidden_dim, num_layers=2, num_mlp_layers=2, fm_rank=None: (
        2 * num_embeddings * d
    ),
    configs=(
        {"num_embeddings": 3, "hidden_dim": 20},
        {"num_embeddings": 8, "hidden_dim": 96, "num_layers": 1, "fm_rank": 5},
        {"num_embeddings": 40, "hidden_dim": 640, "num_layers": 4, "num_mlp_layers": 3, "fm_rank": 24},
    ),
)


def expert_weights(in_dim: int, hidden_dim: int, expert_dim: int, num_layers: int) -> int:
    return mlp_weights(in_dim, hidden_dim, num_layers - 1) + hidden_dim * expert_dim


MOE = ClosedForm(
    params=lambda T, d, hidden_dim, expert_dim, num_experts=4, num_gates=2, num_layers=2: (
        num_experts * expert_weights(T * d, hidden_dim, expert_dim, num_layers)
        + num_experts * ((num_layers - 1) * hidden_dim + expert_dim)
        + num_gates * num_experts * (T * d + 1)
    ),
    flops=lambda T, d, hidden_dim, expert_dim, num_experts=4, num_gates=2, num_layers=2: (
        2 * num_experts * expert_weights(T * d, hidden_dim, expert_dim, num_layers)
        + 2 * num_gates * num_experts * (T * d + expert_dim)
    ),
    output_dim=lambda T, d, hidden_dim, expert_dim, num_experts=4, num_gates=2, num_layers=2: (
        num_gates * expert_dim
    ),
    configs=(
        {"hidden_dim": 8, "expert_dim": 6},
        {"hidden_dim": 24, "expert_dim": 30, "num_experts": 3, "num_gates": 1},
        {"hidden_dim": 300, "expert_dim": 256, "num_experts": 8, "num_gates": 3, "num_layers": 4},
    ),
)


def dhen_cross(T, D, N, cross):
    """Parameters and FLOPs of the cross module, from T tokens to N."""
    if cross == "gram":
        return (D + 1) * N, 2 * T * D**2 + 2 * N * D**2
    return 2 * T * D**2 + T * D + T * N * (N != T), 4 * T * D**2 + 2 * T * N * D * (N != T)


def dhen_params(T, d, model_dim, hidden_dim, num_layers=2, num_heads=4, ensemble="sum", cross="low_rank"):
    D, M, N = model_dim, hidden_dim, T if ensemble == "sum" else T // 4
    encoder = 4 * D**2 + 2 * D * M + M + 9 * D
    pairwise = math.comb(T, 2) * M + M + M * N * D + N * D
    layer = 2 * T * N + encoder + pairwise + dhen_cross(T, D, N, cross)[0] + 2 * D
    return T * (d * D + D) + num_layers * layer


def dhen_flops(T, d, model_dim, hidden_dim, num_layers=2, num_heads=4, ensemble="sum", cross="low_rank"):
    D, M, N = model_dim, hidden_dim, T if ensemble == "sum" else T // 4
    encoder = 8 * T * D**2 + 4 * T**2 * D + 4 * T * D * M
    pairwise = 2 * T**2 * D + 2 * math.comb(T, 2) * M + 2 * M * N * D
    layer = 4 * T * N * D + encoder + pairwise + dhen_cross(T, D, N, cross)[1]
    return 2 * T * d * D + num_layers * layer


DHEN = ClosedForm(
    params=dhen_params,
    flops=dhen_flops,
    output_dim=lambda T, d, model_dim, hidden_dim, **others: T * model_dim,
    configs=(
        {"model_dim": 8, "hidden_dim": 30},
        {"model_dim": 24, "hidden_dim": 96, "num_layers": 1, "num_heads": 8, "ensemble": "concat"},
        {"model_dim": 12, "hidden_dim": 50, "cross": "gram"},
        {"model_dim": 256, "hidden_dim": 600, "num_layers": 3},
    ),
)

CLOSED_FORMS = {
    "dlrm_mlp": DLRM_MLP,
    "deepfm": DEEPFM,
    "dcn": DCN,
    "dcnv2": DCNV2,
    "rdcn": RDCN,
    "gdcn": GDCN,
    "autoint": AUTOINT,
    "transformer": TRANSFORMER,
    "hiformer": HIFORMER,
    "masknet": MASKNET,
    "wukong": WUKONG,
    "hstu": HSTU,
    "finalmlp": FINALMLP,
    "xdeepfm": XDEEPFM,
    "moe": MOE,
    "unimixer": UNIMIXER,
    "dhen": DHEN,
    "rankmixer": RANKMIXER,
    "tokenmixer_large": TOKENMIXER_LARGE,
}
