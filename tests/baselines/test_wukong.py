from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.deepfm import pairwise_dot_sum
from baselines.layers import MLP, LinearCompression
from baselines.wukong import FactorizationMachine, Wukong, WukongLayer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled


def wukong_layers(T, num_embeddings, num_layers):
    """For each layer its number of input tokens, and whether its residual is compressed."""
    return [(T, 1)] + [(2 * num_embeddings, 0)] * (num_layers - 1)


CLOSED_FORM = ClosedForm(
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


def weights(layer):
    return layer.weight.tolist(), layer.bias.tolist()


def over_tokens(tokens, weight):
    """One linear map over the tokens, dimension by dimension."""
    return loops.transpose([loops.linear(column, weight) for column in loops.transpose(tokens)])


def factorize(tokens, layer, relu_output):
    """FMB on one row, from the whole matrix of dot products: the equation before it is optimised."""
    machine, _, norm, mlp, output, *_ = layer.fmb
    projection = machine.project.weight.tolist()  # one row a column of Y
    gram = [[loops.dot(a, b) for b in tokens] for a in tokens]
    flat = [loops.dot(row, column) for row in gram for column in projection]
    flat = loops.layer_norm(flat, *weights(norm))
    flat = loops.mlp(flat, [weights(m) for m in mlp if isinstance(m, nn.Linear)])
    flat = loops.linear(flat, *weights(output))
    if relu_output:
        flat = loops.relu(flat)
    dim = len(tokens[0])
    return [flat[i : i + dim] for i in range(0, len(flat), dim)]


def wukong_layer(tokens, layer, relu_output):
    blocks = factorize(tokens, layer, relu_output) + over_tokens(tokens, layer.lcb.weight.tolist())
    is_identity = isinstance(layer.residual, nn.Identity)
    residual = tokens if is_identity else over_tokens(tokens, layer.residual.weight.tolist())
    summed = [loops.add(a, b) for a, b in zip(blocks, residual, strict=True)]
    return [loops.layer_norm(x, *weights(layer.norm)) for x in summed]


def layer_of_six_tokens(**changes):
    sizes = {"in_tokens": 6, "token_dim": 4, "num_embeddings": 3, "rank": 2}
    options = {"mlp": lambda in_dim: MLP(in_dim, 5, 2), "compress_residual": False}
    return scrambled(WukongLayer(**(sizes | options | changes)))


def silence(*layers):
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


@pytest.mark.parametrize("relu_output", [False, True])
def test_equals_the_equations_written_as_loops(relu_output):
    config = Wukong.Config(num_embeddings=3, hidden_dim=4, num_layers=3, fm_rank=2, relu_output=relu_output)
    model = scrambled(Wukong(5, 4, config))
    tokens = random_tokens(3, 5, 4)
    expected = []
    for row in tokens.tolist():
        for layer in model.layers:
            row = wukong_layer(row, layer, relu_output)
        expected.append([v for token in row for v in token])
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def test_optimised_factorization_machine_equals_the_projected_gram_matrix():
    machine = scrambled(FactorizationMachine(num_tokens=6, rank=3))
    x = random_tokens(2, 6, 4)
    torch.testing.assert_close(machine(x), (x @ x.transpose(1, 2)) @ machine.project.weight.T)


def test_full_rank_and_an_identity_projection_give_the_basic_factorization_machine():
    machine = FactorizationMachine(num_tokens=6, rank=6).double()
    nn.init.eye_(machine.project.weight)
    x = random_tokens(2, 6, 4)
    torch.testing.assert_close(machine(x), x @ x.transpose(1, 2))
    pairs = machine(x).triu(diagonal=1).sum(dim=(1, 2))
    torch.testing.assert_close(pairs[:, None], pairwise_dot_sum(x))


def test_rank_is_the_number_of_embeddings_unless_set():
    def ranks(**changes):
        model = Wukong(5, 4, Wukong.Config(num_embeddings=3, hidden_dim=4, **changes))
        return {layer.fmb[0].project.out_features for layer in model.layers}

    assert ranks() == {3}
    assert ranks(fm_rank=7) == {7}


def test_a_layer_with_zero_blocks_is_the_norm_of_its_input():
    layer = layer_of_six_tokens()
    silence(layer.fmb[4], layer.lcb)
    x = random_tokens(2, 6, 4)
    torch.testing.assert_close(layer(x), layer.norm(x))


def test_a_zero_block_does_not_change_the_tokens_of_the_other_block():
    x = random_tokens(2, 6, 4)
    before = layer_of_six_tokens()(x)
    for block, other_tokens in (("lcb", slice(0, 3)), ("fmb", slice(3, 6))):
        layer = layer_of_six_tokens()
        silence(getattr(layer, block))
        after = layer(x)
        torch.testing.assert_close(after[:, other_tokens], before[:, other_tokens])
        assert not torch.allclose(after, before)


def test_compression_block_is_linear_and_factorization_block_is_not():
    layer = layer_of_six_tokens()
    x, y = random_tokens(2, 6, 4), random_tokens(2, 6, 4, seed=2)
    torch.testing.assert_close(layer.lcb(2 * x - 3 * y), 2 * layer.lcb(x) - 3 * layer.lcb(y))
    assert not torch.allclose(layer.fmb(2 * x - 3 * y), 2 * layer.fmb(x) - 3 * layer.fmb(y))


def test_compression_treats_every_dimension_of_the_tokens_alike():
    compression = scrambled(LinearCompression(in_tokens=6, out_tokens=3))
    x, order = random_tokens(2, 6, 4), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(compression(x[..., order]), compression(x)[..., order])


def test_scaling_the_input_does_not_change_the_factorization_block():
    layer = layer_of_six_tokens()  # its norm takes the square of the scale out again
    x = random_tokens(2, 6, 4)
    torch.testing.assert_close(layer.fmb(1e3 * x), layer.fmb(30 * x), rtol=1e-4, atol=1e-4)


def test_only_the_first_layer_compresses_its_residual():
    model = Wukong(6, 4, Wukong.Config(num_embeddings=3, hidden_dim=4, num_layers=3))
    compressed = [isinstance(layer.residual, LinearCompression) for layer in model.layers]
    assert compressed == [True, False, False]
