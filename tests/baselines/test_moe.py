from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.layers import MLP, PerTokenLinear
from baselines.moe import Experts, Gates, MoE
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled


def expert_weights(in_dim: int, hidden_dim: int, expert_dim: int, num_layers: int) -> int:
    return mlp_weights(in_dim, hidden_dim, num_layers - 1) + hidden_dim * expert_dim


CLOSED_FORM = ClosedForm(
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


NUM_EXPERTS = 3


def expert_layers(experts, j):
    """Weights and biases of expert ``j``, layer by layer."""
    first, *rest = [m for m in experts.layers if isinstance(m, (nn.Linear, PerTokenLinear))]
    rows = slice(j * first.out_features // NUM_EXPERTS, (j + 1) * first.out_features // NUM_EXPERTS)
    layers = [(first.weight[rows].tolist(), first.bias[rows].tolist())]
    return layers + [(loops.transpose(m.weight[j].tolist()), m.bias[j, 0].tolist()) for m in rest]


def model(**changes):
    sizes = {"hidden_dim": 4, "expert_dim": 5, "num_experts": NUM_EXPERTS, "num_gates": 2, "num_layers": 2}
    return scrambled(MoE(4, 3, MoE.Config(**(sizes | changes))))


def mixtures(moe, tokens):
    """(B, G, O)"""
    return moe(tokens).unflatten(1, (*moe.gates.shape[:1], -1))


@pytest.mark.parametrize("num_gates", [1, 2])
@pytest.mark.parametrize("num_layers", [2, 3])
def test_equals_the_equations_written_as_loops(num_gates, num_layers):
    moe = model(num_gates=num_gates, num_layers=num_layers)
    weight, bias = moe.gates.logits.weight.tolist(), moe.gates.logits.bias.tolist()
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        x = [v for token in row for v in token]
        outputs = [loops.mlp(x, expert_layers(moe.experts, j)) for j in range(NUM_EXPERTS)]
        representation = []
        for k in range(num_gates):
            rows = slice(k * NUM_EXPERTS, (k + 1) * NUM_EXPERTS)
            gate = loops.softmax(loops.linear(x, weight[rows], bias[rows]))
            representation += [loops.dot(gate, column) for column in loops.transpose(outputs)]
        expected.append(representation)
    torch.testing.assert_close(moe(tokens), torch.tensor(expected, dtype=torch.float64))


def test_gates_are_distributions_over_the_experts_and_differ():
    gates = scrambled(Gates(in_dim=6, num_gates=2, num_experts=NUM_EXPERTS))
    shares = gates(random_tokens(5, 6))
    assert (shares > 0).all()
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(5, 2, dtype=torch.float64))
    assert not torch.allclose(shares[:, 0], shares[:, 1])


def test_identical_experts_give_every_gate_the_output_of_one_of_them():
    moe = model()
    first, second = moe.experts.layers[0], moe.experts.layers[3]
    with torch.no_grad():
        for parameter in (first.weight, first.bias):
            parameter.copy_(parameter[:4].repeat(NUM_EXPERTS, *[1] * (parameter.dim() - 1)))
        for parameter in (second.weight, second.bias):
            parameter.copy_(parameter[:1].expand_as(parameter))
    tokens = random_tokens(6, 4, 3)
    one = moe.experts(tokens.flatten(1))[:, :1]
    torch.testing.assert_close(mixtures(moe, tokens), one.expand(-1, 2, -1))


@pytest.mark.parametrize("chosen", range(NUM_EXPERTS))
def test_a_gate_of_one_for_an_expert_returns_its_output(chosen):
    moe = model()
    nn.init.zeros_(moe.gates.logits.weight)
    nn.init.zeros_(moe.gates.logits.bias)
    with torch.no_grad():
        moe.gates.logits.bias[chosen] = 100.0  # the first gate's; the second one stays even
    tokens = random_tokens(6, 4, 3)
    outputs = moe.experts(tokens.flatten(1))
    torch.testing.assert_close(mixtures(moe, tokens)[:, 0], outputs[:, chosen])
    torch.testing.assert_close(mixtures(moe, tokens)[:, 1], outputs.mean(dim=1))


def test_permuting_experts_and_their_gate_columns_does_not_change_the_output():
    moe, permuted, order = model(), model(), torch.tensor([2, 0, 1])
    with torch.no_grad():
        for parameter in (*permuted.gates.parameters(), *permuted.experts.layers[0].parameters()):
            groups = 2 if parameter.shape[0] == 2 * NUM_EXPERTS else 1
            by_expert = parameter.unflatten(0, (groups, NUM_EXPERTS, -1))
            parameter.copy_(by_expert[:, order].flatten(0, 2))
        for parameter in permuted.experts.layers[3].parameters():
            parameter.copy_(parameter[order])
    tokens = random_tokens(6, 4, 3)
    torch.testing.assert_close(permuted(tokens), moe(tokens))
    x = tokens.flatten(1)
    torch.testing.assert_close(permuted.gates(x), moe.gates(x)[..., order])
    torch.testing.assert_close(permuted.experts(x), moe.experts(x)[:, order])


def test_gates_see_the_input_and_not_the_experts():
    moe = model()
    x = random_tokens(3, 12)
    before = moe.gates(x)
    for parameter in moe.experts.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(moe.gates(x), before)


def test_a_tower_with_zero_weights_for_other_mixtures_reads_only_its_own_gate():
    moe, alone = model(num_gates=2), model(num_gates=1)
    alone.experts.load_state_dict(moe.experts.state_dict())
    with torch.no_grad():
        alone.gates.logits.weight.copy_(moe.gates.logits.weight[NUM_EXPERTS:])
        alone.gates.logits.bias.copy_(moe.gates.logits.bias[NUM_EXPERTS:])
    tower = scrambled(nn.Linear(10, 2))
    nn.init.zeros_(tower.weight[:, :5])
    tokens = random_tokens(6, 4, 3)
    expected = alone(tokens) @ tower.weight[:, 5:].T + tower.bias
    torch.testing.assert_close(tower(moe(tokens)), expected)


def test_one_expert_is_an_mlp_for_any_gates():
    experts = scrambled(Experts(in_dim=12, hidden_dim=5, expert_dim=5, num_experts=1, num_layers=2))
    moe = scrambled(MoE(4, 3, MoE.Config(hidden_dim=5, expert_dim=5, num_experts=1, num_gates=1)))
    moe.experts.load_state_dict(experts.state_dict())
    mlp = MLP(in_dim=12, hidden_dim=5, num_layers=2).double()
    first, second = experts.layers[0], experts.layers[3]
    with torch.no_grad():
        mlp[0].weight.copy_(first.weight)
        mlp[0].bias.copy_(first.bias)
        mlp[2].weight.copy_(second.weight[0].T)
        mlp[2].bias.copy_(second.bias[0, 0])
    tokens = random_tokens(6, 4, 3)
    torch.testing.assert_close(moe(tokens), mlp(tokens.flatten(1)))


def test_a_single_layer_is_refused_because_its_knob_would_have_no_effect():
    with pytest.raises(ValueError, match="num_layers is 1"):
        MoE(4, 3, MoE.Config(hidden_dim=4, expert_dim=4, num_layers=1))
