from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines.finalmlp import BilinearFusion, FeatureGate, FinalMLP
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, first_dim, second_dim, num_layers=3, num_heads=2, gates=True: (
        sum(
            T * d * gates + mlp_weights(T * d, width, num_layers) + num_layers * width
            for width in (first_dim, second_dim)
        )
        + first_dim * second_dim // num_heads
    ),
    flops=lambda T, d, first_dim, second_dim, num_layers=3, num_heads=2, gates=True: (
        2 * mlp_weights(T * d, first_dim, num_layers)
        + 2 * mlp_weights(T * d, second_dim, num_layers)
        + 2 * first_dim * second_dim // num_heads
    ),
    output_dim=lambda T, d, first_dim, second_dim, num_layers=3, num_heads=2, gates=True: (
        first_dim + second_dim + num_heads
    ),
    configs=(
        {"first_dim": 8, "second_dim": 6},
        {"first_dim": 8, "second_dim": 6, "gates": False},
        {"first_dim": 24, "second_dim": 32, "num_layers": 1, "num_heads": 8},
        {"first_dim": 640, "second_dim": 513, "num_layers": 4, "num_heads": 1},
    ),
)


def stream(module, x):
    gate, deep = module
    gated = [v * 2 / (1 + math.exp(-g)) for v, g in zip(x, gate.gate.tolist(), strict=True)]
    return loops.mlp(gated, [(m.weight.tolist(), m.bias.tolist()) for m in deep if isinstance(m, nn.Linear)])


def bilinear(first, second, weight):
    """Every head's double sum over its slices, the heads being consecutive slices."""
    terms = []
    for h, matrix in enumerate(weight):
        rows, columns = len(matrix), len(matrix[0])
        terms.append(
            math.fsum(
                first[h * rows + i] * matrix[i][j] * second[h * columns + j]
                for i in range(rows)
                for j in range(columns)
            )
        )
    return terms


def test_equals_the_equations_written_as_loops():
    config = FinalMLP.Config(first_dim=8, second_dim=6, num_layers=2)
    model = scrambled(FinalMLP(4, 3, config))
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        x = [v for token in row for v in token]
        first, second = stream(model.first, x), stream(model.second, x)
        expected.append(first + second + bilinear(first, second, model.fusion.weight.tolist()))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))
    assert (model(tokens)[:, -2:] != 0).any(dim=0).all(), "a head was not compared: its terms are all zero"


def test_without_gates_each_stream_reads_what_gates_at_their_start_pass_on():
    model, plain = (
        FinalMLP(5, 3, FinalMLP.Config(first_dim=4, second_dim=6, gates=g)) for g in (True, False)
    )
    model, plain = model.double(), plain.double()
    for name in ("first", "second"):
        getattr(plain, name).load_state_dict(getattr(model, name)[1].state_dict())
    plain.fusion.load_state_dict(model.fusion.state_dict())
    tokens = random_tokens(2, 5, 3)
    torch.testing.assert_close(plain(tokens), model(tokens), rtol=0, atol=0)


def test_one_head_is_the_full_bilinear_form():
    fusion = scrambled(BilinearFusion(first_dim=4, second_dim=6, num_heads=1))
    first, second = random_tokens(5, 4), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(
        fusion(first, second), ((first @ fusion.weight[0]) * second).sum(1, keepdim=True)
    )


@pytest.mark.parametrize("num_heads", [1, 2, 3, 6])
def test_the_sum_of_all_heads_is_the_full_form_with_a_block_diagonal_matrix(num_heads):
    fusion = scrambled(BilinearFusion(first_dim=6, second_dim=12, num_heads=num_heads))
    first, second = random_tokens(5, 6), random_tokens(5, 12, seed=2)
    matrix = torch.block_diag(*fusion.weight)
    torch.testing.assert_close(
        fusion(first, second).sum(1), torch.einsum("bi,ij,bj->b", first, matrix, second)
    )


def test_without_the_bilinear_matrix_a_logit_is_a_sum_of_one_linear_head_for_each_stream():
    model = scrambled(FinalMLP(4, 3, FinalMLP.Config(first_dim=8, second_dim=6, num_layers=2)))
    nn.init.zeros_(model.fusion.weight)
    tokens, head = random_tokens(3, 4, 3), random_tokens(16, seed=2)
    flat = tokens.flatten(1)
    expected = model.first(flat) @ head[:8] + model.second(flat) @ head[8:14]
    torch.testing.assert_close(model(tokens) @ head, expected)


def test_gates_start_as_the_identity_and_stay_between_zero_and_two():
    x = random_tokens(3, 6)
    torch.testing.assert_close(FeatureGate(6).double()(x), x, rtol=0, atol=0)
    scale = FeatureGate(6).double()
    scale.gate.data = torch.tensor([-50.0, -1.0, 0.0, 1.0, 50.0, 2.0], dtype=torch.float64)
    ratio = scale(x) / x
    torch.testing.assert_close(ratio[0, 0].item(), 0.0)
    torch.testing.assert_close(ratio[0, 4].item(), 2.0)
    torch.testing.assert_close(ratio[:, 1] + ratio[:, 3], torch.full((3,), 2.0, dtype=torch.float64))


def test_a_gate_closes_an_input_only_for_its_own_stream():
    model = scrambled(FinalMLP(4, 3, FinalMLP.Config(first_dim=32, second_dim=32)))
    model.first[0].gate.data[:3] = -1e3  # the first token
    tokens, moved = random_tokens(8, 4, 3), random_tokens(8, 4, 3)
    moved[:, 0] += 1
    before, after = model(tokens), model(moved)
    torch.testing.assert_close(after[:, :32], before[:, :32], rtol=0, atol=0)
    assert not torch.allclose(after[:, 32:64], before[:, 32:64])


@pytest.mark.parametrize(("field", "width"), [("first_dim", 5), ("second_dim", 7)])
def test_a_width_that_heads_do_not_divide_is_refused_by_name(field, width):
    config = FinalMLP.Config(**({"first_dim": 4, "second_dim": 4} | {field: width}))
    with pytest.raises(ValueError, match=rf"{field} {width} .* set it to {width - 1} or {width + 1}"):
        FinalMLP(4, 3, config)
