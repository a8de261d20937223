"""The Sparse-MoE against loops in float64 and closed forms, and the results that its trainings must reach."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from baselines.contract import Output
from baselines.layers import PerTokenFFN
from rankmixer.model import RankMixer
from rankmixer.moe_ablations import ABLATIONS, sparse_moe
from rankmixer.sparse_moe import SparseMoE
from tests.baselines import loops
from tests.baselines.scrambled import random_tokens, scrambled
from tests.rankmixer import toy

B, T, d, D, M, E = 6, 3, 2, 6, 24, 8
TRAININGS = ("two_branch", "plain", "split", "distill", "additive", "l1_only")
ROUTINGS = ("relu", "top_k")
# l1_only is refused with top-k gates, which have no penalty to train by
WAYS = [*product(TRAININGS[:-1], ROUTINGS), ("l1_only", "relu")]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.__name__)
def test_the_papers_class_refuses_the_config_of_an_ablation(ablation):
    [(name, value)] = ablation.reading.items()
    config = SparseMoE.Config(**{name: 1.0 if value is ... else value})
    assert type(sparse_moe(T, D, M, config)) is ablation
    with pytest.raises(ValueError, match=rf"moe\.{name} .* is an ablation; build it with .*sparse_moe"):
        SparseMoE(T, D, M, config)


def test_a_layer_combines_all_ablations_of_its_config():
    assert type(sparse_moe(T, D, M, SparseMoE.Config())) is SparseMoE
    config = SparseMoE.Config(routing="top_k", training="plain", capacity=1.0)
    found = type(sparse_moe(T, D, M, config)).__mro__
    assert [each.__name__ for each in found[1:4]] == ["SingleRouter", "TopKGates", "Capacity"]


def layer(**fields) -> SparseMoE:
    return scrambled(sparse_moe(T, D, M, SparseMoE.Config(**fields)))


def model(num_layers: int = 2, **fields) -> RankMixer:
    chosen = RankMixer.Config(model_dim=D, ffn_dim=M, num_layers=num_layers, moe=SparseMoE.Config(**fields))
    return scrambled(RankMixer(T, d, chosen))


def evaluated(module: nn.Module, x: Tensor):
    module.eval()
    with torch.no_grad():
        return module(x)


def set_gates(router: nn.Module, logit: float) -> None:
    """Make the router give this logit for every row, token and expert."""
    nn.init.zeros_(router.linear.weight)
    nn.init.constant_(router.linear.bias, logit)


def moved(module: nn.Module) -> set[str]:
    """The parts of a layer that have a gradient other than zero."""
    return {
        part
        for part in ("up", "down", "inference_router", "training_router")
        if any(
            f".{part}." in f".{name}" and p.grad is not None and p.grad.abs().max() > 0
            for name, p in module.named_parameters()
        )
    }


# The equation ---------------------------------------------------------------------------------


def experts_of_a_token(moe: SparseMoE, s: list[float], gates: list[float], t: int) -> list[float]:
    """Equation 10: the sum over experts of gate times expert, and the bias."""
    up, up_bias = moe.up.weight[t].tolist(), moe.up.bias[t, 0].tolist()
    down, v = moe.down.weight[t].tolist(), moe.down.bias[t, 0].tolist()
    width = len(up_bias) // len(gates)
    for e, gate in enumerate(gates):
        for m in range(e * width, (e + 1) * width) if gate > 0 else ():
            projected = loops.dot(s, [row[m] for row in up])
            if moe.config.gate_on == "input":
                [hidden] = loops.gelu([gate * projected + up_bias[m]])
            else:
                hidden = gate * loops.gelu([projected + up_bias[m]])[0]
            v = loops.add(v, [hidden * w for w in down[m]])
    return v


def gates_of_a_token(moe: SparseMoE, router: nn.Module, s: list[float], t: int) -> list[float]:
    logits = loops.linear(
        s, loops.transpose(router.linear.weight[t].tolist()), router.linear.bias[t, 0].tolist()
    )
    if moe.config.routing == "relu":
        return loops.relu(logits)
    k = round(moe.config.active_ratio * E)
    kept = sorted(range(E), key=lambda e: -logits[e])[:k]
    pool = range(E) if moe.config.top_k_order == "softmax_first" else kept
    scale = {"experts": E, "inverse_ratio": E / k, "none": 1}[moe.config.gate_scale]
    total = math.fsum(math.exp(logits[e]) for e in pool)
    return [scale * math.exp(logits[e]) / total if e in kept else 0.0 for e in range(E)]


CASES = [
    *({"routing": "relu", "gate_on": where} for where in ("output", "input")),
    *({"routing": "top_k", "gate_scale": scale} for scale in ("experts", "inverse_ratio", "none")),
    {"routing": "top_k", "top_k_order": "top_k_first", "gate_on": "input"},
]


@pytest.mark.parametrize("way", ["sparse", "dense", "in training"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_layer_equals_equation_10_in_loops(case, way):
    moe = layer(**case, training="plain")
    s = random_tokens(B, T, D)
    v, routing = evaluated(moe, s) if way == "sparse" else moe.train(way == "in training")(s)
    gates = [
        [gates_of_a_token(moe, moe.inference_router, x, t) for t, x in enumerate(row)] for row in s.tolist()
    ]
    expected = [
        [experts_of_a_token(moe, x, gates[b][t], t) for t, x in enumerate(row)]
        for b, row in enumerate(s.tolist())
    ]
    torch.testing.assert_close(routing.gates, torch.tensor(gates, dtype=torch.float64))
    torch.testing.assert_close(v, torch.tensor(expected, dtype=torch.float64))


def test_a_gate_on_the_input_and_one_on_the_output_are_different_models():
    s = random_tokens(B, T, D)
    on_output, on_input = (evaluated(layer(gate_on=where), s)[0] for where in ("output", "input"))
    assert not torch.allclose(on_output, on_input, atol=1e-3)


UNIT = {
    "relu": {"routing": "relu"},
    "relu on the input": {"routing": "relu", "gate_on": "input"},
    "top-k": {"routing": "top_k", "active_ratio": 1.0},
    "softmax over the kept": {"routing": "top_k", "active_ratio": 1.0, "top_k_order": "top_k_first"},
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fields", UNIT.values(), ids=UNIT)
def test_with_unit_gates_it_equals_the_dense_network_with_the_same_weights(fields, training):
    moe = layer(training="plain", **fields).train(training)
    set_gates(moe.inference_router, 1.0)
    dense = PerTokenFFN(T, D, M).double()
    dense.load_state_dict({k: v for k, v in moe.state_dict().items() if k in dense.state_dict()})
    s = random_tokens(B, T, D)
    torch.testing.assert_close(moe(s)[0], dense(s), rtol=0, atol=1e-12)
    torch.testing.assert_close(evaluated(moe, s)[0], dense(s), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("gate_scale", "share"), [("none", 1 / E), ("inverse_ratio", 1 / E), ("experts", 1)])
def test_unscaled_softmax_gates_average_the_experts_and_the_dense_network_sums_them(gate_scale, share):
    moe = layer(training="plain", routing="top_k", active_ratio=1.0, gate_scale=gate_scale)
    set_gates(moe.inference_router, 0.0)
    _, routing = evaluated(moe, random_tokens(B, T, D))
    torch.testing.assert_close(routing.gates, torch.full((B, T, E), share, dtype=torch.float64))


@pytest.mark.parametrize("fields", [{}, {"gate_on": "input"}, {"training": "plain"}], ids=str)
def test_with_all_gates_closed_evaluation_computes_no_expert_and_returns_the_bias(fields):
    moe = layer(**fields)
    set_gates(moe.inference_router, -1.0)
    s = random_tokens(B, T, D)
    with FlopCounterMode(display=False) as counter:
        v, _ = evaluated(moe, s)
    torch.testing.assert_close(v, moe.down.bias.detach().transpose(0, 1).expand(B, T, D), rtol=0, atol=0)
    assert counter.get_total_flops() == B * 2 * T * D * E  # the router's


@pytest.mark.parametrize(
    "fields",
    [
        {"router_bias": -1.0},
        {"routing": "top_k", "active_ratio": 1 / 8},
        {"routing": "top_k", "active_ratio": 0.5},
    ],
    ids=str,
)
def test_evaluation_does_not_compute_closed_experts(fields):
    torch.manual_seed(0)
    moe = sparse_moe(T, D, M, SparseMoE.Config(**fields)).double()
    s = random_tokens(64, T, D)
    with FlopCounterMode(display=False) as counter:
        _, routing = evaluated(moe, s)
    opened = int((routing.gates > 0).sum())
    assert 0 < opened <= 0.55 * 64 * T * E
    assert counter.get_total_flops() == 64 * 2 * T * D * E + opened * 4 * D * (M // E)


def test_evaluation_is_the_same_whether_closed_experts_are_computed_or_not():
    moe = layer(routing="top_k").eval()
    s = random_tokens(64, T, D)
    computed, _ = moe(s)  # with gradients: all of them
    assert computed.requires_grad
    torch.testing.assert_close(evaluated(moe, s)[0], computed, rtol=0, atol=1e-12)


def test_every_slice_is_initialised_by_its_own_fan_in_and_not_by_that_of_the_stack():
    torch.manual_seed(0)
    tokens, width, hidden = 5, 64, 256
    moe = sparse_moe(tokens, width, hidden, SparseMoE.Config())
    for part, fan_in, fan_out in ((moe.up, width, hidden), (moe.down, hidden, width)):
        alone = nn.Linear(fan_in, fan_out)
        for weight, bias in zip(part.weight, part.bias, strict=True):
            assert weight.std().item() == pytest.approx(alone.weight.std().item(), rel=0.03)
            assert weight.abs().max().item() == pytest.approx(alone.weight.abs().max().item(), rel=0.01)
            assert bias.std().item() == pytest.approx(alone.bias.std().item(), rel=0.25)
        stacked = nn.init.kaiming_uniform_(torch.empty_like(part.weight), a=5**0.5)
        assert stacked.std().item() != pytest.approx(
            alone.weight.std().item(), rel=0.3
        )  # the fault would be seen


# Costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("training", "routers"), [("plain", 1), ("two_branch", 2), ("split", 2), ("l1_only", 2)]
)
def test_parameters_are_those_of_the_dense_network_plus_each_router(training, routers, shared):
    moe = sparse_moe(T, D, M, SparseMoE.Config(training=training, shared_router=shared))
    router = (1 if shared else T) * (D * E + E)
    expected = 2 * T * D * M + T * (M + D) + routers * router
    assert sum(p.numel() for p in moe.parameters()) == expected


def counted(net: nn.Module, rows: int = 8) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(rows, T, d, device="meta", dtype=torch.float64))
    return counter.get_total_flops() // rows


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize(
    ("training", "passes", "routers"), [("plain", 1, 1), ("two_branch", 2, 2), ("additive", 1, 2)]
)
def test_flops_are_closed_forms_in_evaluation_and_in_training(training, passes, routers, routing):
    layers = 3
    with torch.device("meta"):
        net = model(num_layers=layers, training=training, routing=routing)
    projection, experts, router = 2 * T * d * D, 4 * T * D * M, 2 * T * D * E
    assert counted(net.eval()) == projection + layers * (experts + router)
    assert counted(net.train()) == projection + layers * (passes * experts + routers * router)
    assert net.expert_flops == layers * experts


@pytest.mark.parametrize(("ratio", "hidden"), [(1.0, 24), (0.5, 48), (0.125, 192)])
def test_with_a_fixed_active_width_experts_grow_if_fewer_are_active(ratio, hidden):
    moe = sparse_moe(T, D, M, SparseMoE.Config(active_ratio=ratio, budget="fixed_active"))
    assert moe.up.weight.shape == (T, D, hidden)
    assert moe.down.weight.shape == (T, hidden, D)
    assert moe.expert_flops * ratio == 4 * T * D * M
    fixed_total = sparse_moe(T, D, M, SparseMoE.Config(active_ratio=ratio))
    assert fixed_total.up.weight.shape == (T, D, M)


# Two routers ----------------------------------------------------------------------------------


def test_each_branch_has_a_task_gradient_only_for_its_own_router():
    tokens = random_tokens(B, T, d)
    for branch, reached in (("own", "inference_router"), ("view", "training_router")):
        net = model()
        output = net(tokens)
        chosen = output.representation if branch == "own" else output.views["training_router"].representation
        chosen.square().sum().backward()
        assert moved(net) == {"up", "down", reached}


def test_both_branches_have_the_same_weight_and_the_same_rows():
    net = model()
    tokens = random_tokens(B, T, d)
    output = net(tokens)
    [view] = output.views.values()
    assert view.weight == 1.0
    torch.testing.assert_close(output.representation, evaluated(net, tokens).representation)
    for block in net.blocks:  # with the routers exchanged, so are the branches
        block.ffn.inference_router, block.ffn.training_router = (
            block.ffn.training_router,
            block.ffn.inference_router,
        )
    torch.testing.assert_close(view.representation, evaluated(net, tokens).representation)


@pytest.mark.parametrize("training", TRAININGS)
def test_the_sparsity_penalty_trains_only_the_inference_router(training):
    """It does not train the experts of a single layer either: it depends only on the gates."""
    net = model(num_layers=1, training=training)
    net(random_tokens(B, T, d)).penalties["sparsity"].backward()
    assert moved(net) == {"inference_router"}


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("penalty", ["closure", "revival"])
def test_penalties_on_closed_gates_change_only_these_of_the_inference_router(training, penalty):
    net = model(num_layers=1, training=training)
    bias = net.blocks[0].ffn.inference_router.linear.bias
    with torch.no_grad():
        bias[0].fill_(1e3)  # token 0's gates are open on every row, token 1's closed
        bias[1].fill_(-1e3)
    net(random_tokens(B, T, d)).penalties[penalty].backward()
    assert moved(net) == {"inference_router"}
    assert (bias.grad[0] == 0).all()
    assert (bias.grad[1] < 0).all()  # a step against the gradient opens them


def test_penalties_are_coefficients_times_the_mean_over_layers_of_open_and_closed_logits():
    net = model(num_layers=2, coefficient="per_layer", training="plain")
    net.coefficient.value.copy_(torch.tensor([0.3, 0.7]))
    net.coefficient.opening.copy_(torch.tensor([0.2, 0.5]))
    logits = []
    for block in net.blocks:
        block.ffn.inference_router.register_forward_hook(lambda module, args, result: logits.append(result))
    penalties = net(random_tokens(B, T, d)).penalties
    flat = [layer.flatten().tolist() for layer in logits]
    opened = [math.fsum(value for value in layer if value > 0) / B for layer in flat]
    closed = [math.fsum(-value for value in layer if value < 0) / B for layer in flat]
    assert penalties["sparsity"].item() == pytest.approx((0.3 * opened[0] + 0.7 * opened[1]) / 2)
    assert penalties["closure"].item() == pytest.approx((0.2 * closed[0] + 0.5 * closed[1]) / 2)
    assert penalties["revival"].item() == pytest.approx((0.3 * idle(logits[0]) + 0.7 * idle(logits[1])) / 2)


def idle(logits: Tensor) -> float:
    """Mean depth of the closed gates of each expert, times how far its usage is below a tenth of 1/4."""
    total = 0.0
    for expert in logits.flatten(1).t().tolist():
        used = sum(value > 0 for value in expert) / B
        total += max(0.0, 1 - used / (0.1 / 4)) * sum(max(0.0, -value) for value in expert) / B
    return total


@pytest.mark.parametrize("fields", [{"reopening": False}, {"coefficient": "fixed"}, {"routing": "top_k"}])
def test_gates_are_not_reopened_if_that_is_switched_off_or_there_is_no_controller(fields):
    assert not {"closure", "revival"} & set(model(**fields)(random_tokens(B, T, d)).penalties)


@pytest.mark.parametrize(("training", "routing"), WAYS)
def test_every_way_training_gates_takes_a_step_and_evaluates_by_the_inference_router_alone(training, routing):
    torch.manual_seed(0)
    chosen = SparseMoE.Config(training=training, routing=routing, balance_loss=0.01)
    net = RankMixer(toy.NUM_TOKENS, toy.TOKEN_DIM, toy.config(chosen))
    tower = nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*net.parameters(), *tower.parameters()])
    tokens, labels = toy.Task().batch(17)
    for _ in range(2):
        output = net(tokens)
        optimizer.zero_grad()
        toy.loss_of(output, tower, labels).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        net.update(output.statistics)
    before = evaluated(net, tokens)
    assert before.views == {}
    assert before.representation.isfinite().all()
    scramble(net, "training_router")
    assert torch.equal(evaluated(net, tokens).representation, before.representation)
    scramble(net, "inference_router")
    assert not torch.allclose(evaluated(net, tokens).representation, before.representation)


def scramble(net: nn.Module, part: str) -> None:
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if part in name:
                parameter.normal_()


@pytest.mark.parametrize(("training", "routing"), WAYS)
def test_every_way_training_gates_runs_in_bf16(training, routing):
    net = model(training=training, routing=routing).float()
    tokens = random_tokens(9, T, d).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(tokens)
        apart = evaluated(net, tokens)
    (output.representation.float().sum() + sum(output.penalties.values())).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert apart.representation.isfinite().all()


def dense_with(moe: SparseMoE, s: Tensor, gates: Tensor) -> Tensor:
    """The sum of all experts, each times its gate, computed one after another."""
    v = moe.down.bias.transpose(0, 1).expand_as(s)
    for e in range(E):
        own = slice(e * M // E, (e + 1) * M // E)
        hidden = torch.einsum("btd,tdm->btm", s, moe.up.weight[:, :, own]) + moe.up.bias[:, 0, own]
        expert = torch.einsum("btm,tmd->btd", nn.functional.gelu(hidden), moe.down.weight[:, own])
        v = v + gates[:, :, e : e + 1] * expert
    return v


@pytest.mark.parametrize(("train_gate", "rows"), [("relu", 6), ("softmax", 6), ("relu", 7), ("relu", 1)])
def test_split_gates_even_rows_by_the_inference_router_and_odd_rows_by_the_other(train_gate, rows):
    moe = layer(training="split", train_gate=train_gate)
    s = random_tokens(rows, T, D)
    v, routing = moe(s)
    inference_gates = moe.inference_router(s).relu()
    training_gates = moe.training_router(s)
    training_gates = training_gates.relu() if train_gate == "relu" else E * training_gates.softmax(-1)
    is_even = (torch.arange(rows) % 2 == 0).view(-1, 1, 1)
    torch.testing.assert_close(v, dense_with(moe, s, torch.where(is_even, inference_gates, training_gates)))
    torch.testing.assert_close(routing.gates, inference_gates[::2])
    v[1::2].square().sum().backward(retain_graph=True)
    assert "inference_router" not in moved(moe)
    moe.zero_grad()
    v[::2].square().sum().backward()
    assert "training_router" not in moved(moe)


def test_only_distillation_trains_the_inference_router_and_the_task_does_not():
    moe = layer(training="distill")
    s = random_tokens(B, T, D)
    v, routing = moe(s)
    teacher = dense_with(moe, s, moe.training_router(s).relu())
    student = dense_with(moe, s, moe.inference_router(s).relu())
    torch.testing.assert_close(v, teacher)
    expected = (student - teacher).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(routing.penalties["distillation"], expected)
    routing.penalties["distillation"].backward(retain_graph=True)
    assert moved(moe) == {"inference_router"}
    moe.zero_grad()
    v.square().sum().backward()
    assert moved(moe) == {"up", "down", "training_router"}


def test_additive_gates_are_the_sum_of_both_routers_in_training():
    moe = layer(training="additive")
    s = random_tokens(B, T, D)
    v, _ = moe(s)
    both = moe.inference_router(s).relu() + moe.training_router(s).relu()
    torch.testing.assert_close(v, dense_with(moe, s, both))


def test_l1_only_keeps_the_task_from_the_inference_router():
    moe = layer(training="l1_only")
    s = random_tokens(B, T, D)
    v, _ = moe(s)
    torch.testing.assert_close(v, dense_with(moe, s, moe.training_router(s).relu()))
    v.square().sum().backward()
    assert moved(moe) == {"up", "down", "training_router"}


# Switches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("capacity", "kept"), [(1.0, 2), (1.2, 3), (0.1, 1), (100.0, 8), (None, 8)])
def test_capacity_limits_evaluation_to_the_largest_gates_of_each_token(capacity, kept):
    moe = layer(capacity=capacity, active_ratio=0.25)
    s = random_tokens(32, T, D)
    gates = moe.inference_router(s).detach().relu()
    expected = [
        [[g if rank(row, e) < kept else 0.0 for e, g in enumerate(row)] for row in token]
        for token in gates.tolist()
    ]
    capped = torch.tensor(expected, dtype=torch.float64)
    v, routing = evaluated(moe, s)
    torch.testing.assert_close(routing.gates, capped)
    torch.testing.assert_close(v, dense_with(moe, s, capped).detach())
    moe.train()
    torch.testing.assert_close(moe(torch.cat([s, s]))[1].gates, gates)


def rank(gates: list[float], e: int) -> int:
    return sorted(range(len(gates)), key=lambda i: -gates[i]).index(e)


def test_statistics_are_the_share_of_rows_for_which_the_inference_router_opens_each_expert():
    net = model()
    routings = []
    for block in net.blocks:
        block.ffn.register_forward_hook(lambda module, args, result: routings.append(result[1].gates))
    net.coefficient.value.fill_(0.25)
    for training in (True, False):
        routings.clear()
        statistics = net.train(training)(random_tokens(B, T, d)).statistics
        expected = [
            [[sum(float(g[b, t, e] > 0) for b in range(B)) / B for e in range(E)] for t in range(T)]
            for g in routings
        ]
        torch.testing.assert_close(statistics["active_experts"], torch.tensor(expected))
        assert statistics["penalty_coefficient"].item() == 0.25
        assert not any(value.requires_grad for value in statistics.values())


@pytest.mark.parametrize(("routing", "moves"), [("relu", True), ("top_k", False)])
def test_relu_routers_have_a_coefficient_and_top_k_has_none(routing, moves):
    net = model(routing=routing, initial_coefficient=1e-3, coefficient_growth=2.0, active_ratio=0.125)
    output = net(random_tokens(B, T, d))
    assert ("sparsity" in output.penalties) == moves
    assert ("penalty_coefficient" in output.statistics) == moves
    net.update(output.statistics)
    assert net.coefficient.value.tolist() == pytest.approx(2 * [2e-3 if moves else 1e-3])


@pytest.mark.parametrize("routing", ROUTINGS)
def test_losses_on_router_probabilities_are_weighted_and_reach_the_inference_router(routing):
    plain = {"routing": routing, "training": "two_branch"}
    tokens = random_tokens(B, T, d)
    for field, name in (("balance_loss", "balance"), ("mutual_information_loss", "mutual_information")):
        assert name not in model(**plain)(tokens).penalties
        small, large = (model(**plain, **{field: w})(tokens).penalties[name] for w in (0.01, 0.02))
        torch.testing.assert_close(2 * small, large)
        net = model(num_layers=1, **plain, **{field: 0.01})
        net(tokens).penalties[name].backward()
        assert moved(net) == {"inference_router"}


def test_the_balance_loss_of_top_k_is_one_for_even_use():
    """Row b opens only expert b, so all experts are equally likely over the batch."""
    moe = sparse_moe(
        1, E, E, SparseMoE.Config(routing="top_k", active_ratio=1 / E, balance_loss=0.01, training="plain")
    )
    nn.init.zeros_(moe.inference_router.linear.bias)
    moe.inference_router.linear.weight.data.copy_(5 * torch.eye(E))
    _, routing = moe(torch.eye(E).unsqueeze(1))
    assert routing.penalties["balance"].item() == pytest.approx(0.01)


GRADIENT_CASES = [
    *({"training": training, "routing": routing} for training, routing in WAYS),
    {"train_gate": "softmax"},
    {"gate_on": "input"},
    {"gate_on": "input", "training": "plain", "routing": "top_k"},
    {"penalty": "load_balanced"},
    {"balance_loss": 0.5, "mutual_information_loss": 0.5},
    {"routing": "top_k", "top_k_order": "top_k_first", "balance_loss": 0.5},
    {"shared_router": True},
]


@pytest.mark.parametrize("fields", GRADIENT_CASES, ids=str)
def test_gradients_equal_finite_differences(fields):
    net = model(num_layers=1, initial_coefficient=1.0, **fields)
    names = list(dict(net.named_parameters()))

    def results(tokens, *values):
        output = functional_call(net, dict(zip(names, values, strict=True)), tokens)
        # Distillation holds its teacher still, which finite differences cannot know.
        penalties = [value for name, value in output.penalties.items() if name != "distillation"]
        return output.representation, *(view.representation for view in output.views.values()), *penalties

    inputs = (
        random_tokens(4, T, d).requires_grad_(),
        *(p.detach().requires_grad_() for p in net.parameters()),
    )
    assert torch.autograd.gradcheck(results, inputs, fast_mode=True, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize(("training", "routing"), WAYS)
def test_training_compiles_to_one_graph(training, routing):
    net = model(num_layers=1, training=training, routing=routing)
    tokens = random_tokens(B, T, d)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    expected, output = net(tokens), compiled(tokens)
    torch.testing.assert_close(output.representation, expected.representation)
    torch.testing.assert_close(output.statistics, expected.statistics)
    torch.testing.assert_close(output.penalties, expected.penalties)
    torch._dynamo.reset()


def test_evaluation_compiles_to_one_graph_with_the_same_output():
    net = model()
    tokens = random_tokens(B, T, d)
    expected = evaluated(net, tokens)
    with torch.no_grad():
        output = torch.compile(net, backend="eager", fullgraph=True)(tokens)
    torch.testing.assert_close(output.representation, expected.representation)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_experts": 0}, r"moe.num_experts is 0; set it to 1 or more"),
        ({"num_experts": 7}, r"ffn_dim 24 .* 7 experts \(moe.num_experts\).*multiple"),
        ({"num_experts": 9, "active_ratio": 0.5, "budget": "fixed_active"}, r"gives 48 hidden units"),
        ({"active_ratio": 0.0}, r"moe.active_ratio is 0.0; set it above 0 and at most 1"),
        ({"active_ratio": 1.5}, r"moe.active_ratio is 1.5; set it above 0 and at most 1"),
        ({"active_ratio": math.nan}, r"moe.active_ratio is nan; set it above 0"),
        ({"routing": "top_k", "active_ratio": 0.3}, r"active_ratio 0.3 of 8 experts is 2.4 .*whole number"),
        ({"routing": "top_k", "active_ratio": 0.05}, r"0.4 a token.*change one of them"),
        ({"initial_coefficient": 0.0}, r"moe.initial_coefficient is 0.0; set it within"),
        ({"initial_coefficient": 99.0}, r"moe.initial_coefficient is 99.0; set it within .*to 10.0"),
        ({"coefficient_bounds": (0.0, 1.0)}, r"moe.coefficient_bounds, 0.0 to 1.0, both above 0"),
        ({"coefficient_bounds": (1.0, 1e-9)}, r"moe.coefficient_bounds, 1.0 to 1e-09"),
        ({"coefficient_growth": 1.0}, r"moe.coefficient_growth is 1.0; set it above 1"),
        ({"coefficient_lead": -1.0}, r"moe.coefficient_lead is -1.0; set it to 0 or more"),
        ({"training": "l1_only", "routing": "top_k"}, r"'l1_only' .*; set moe.routing to 'relu'"),
        ({"balance_loss": -1.0}, r"moe.balance_loss is -1.0; set it to 0 or more"),
        ({"capacity": math.nan}, r"moe.capacity is nan; set it above 0"),
        ({"training": "distill", "gate_on": "input"}, r"'distill' gates outputs; set moe.gate_on"),
        ({"capacity": 0.0}, r"moe.capacity is 0.0; set it above 0 or leave it out"),
    ],
    ids=str,
)  # fmt: skip
def test_an_invalid_config_is_refused_with_the_field_and_advice(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        sparse_moe(T, D, M, SparseMoE.Config(**fields))


def open_at(experts: int, active: int) -> set[int]:
    """The numbers of gates of a token that top-k opens if the ratio is ``active`` / ``experts``."""
    chosen = SparseMoE.Config(num_experts=experts, active_ratio=active / experts, routing="top_k")
    gates = evaluated(sparse_moe(1, 2, experts, chosen), torch.randn(9, 1, 2))[1].gates
    return set((gates > 0).sum(-1).flatten().tolist())


def test_top_k_opens_the_number_of_experts_that_the_ratio_means():
    for experts in range(1, 33):
        for active in range(1, experts + 1):
            assert open_at(experts, active) == {active}


# Results that a training must reach -------------------------------------------------------------------

QUARTER = SparseMoE.Config(active_ratio=1 / 4)
EIGHTH = SparseMoE.Config(active_ratio=1 / 8)
HALF = SparseMoE.Config(active_ratio=1 / 2, router_bias=-3.0)  # hardly a gate is open at the start
WEAK, STRONG = (
    SparseMoE.Config(active_ratio=1 / 4, coefficient="fixed", initial_coefficient=value)
    for value in (1e-4, 1e-1)
)
DEAD_FORM = SparseMoE.Config(active_ratio=1 / 4, training="l1_only", reopening=False)


STEPS = {HALF: 500, QUARTER: 400, EIGHTH: 400, WEAK: 120, STRONG: 120}  # till the share hardly moves


def trained(moe: SparseMoE.Config) -> toy.Trained:
    return toy.train(moe, STEPS.get(moe, 300), learning_rate=1e-2 if moe == DEAD_FORM else 1e-3, seed=1)


def active_ratio(output: Output) -> float:
    return output.statistics["active_experts"].mean().item()


ratios = pytest.mark.parametrize("moe", [HALF, QUARTER, EIGHTH], ids=["half", "quarter", "eighth"])


@ratios
def test_the_active_ratio_reaches_its_target_in_training_and_in_evaluation(moe):
    run = trained(moe)
    assert run.late() == pytest.approx(moe.active_ratio, abs=0.02)
    output, right = run.evaluate()
    assert active_ratio(output) == pytest.approx(moe.active_ratio, rel=0.1)
    assert right > 0.75  # chance is 0.5


def test_a_share_far_below_the_target_recovers_only_with_reopening():
    run = trained(HALF)
    assert run.active[0] < 0.05
    assert run.late() == pytest.approx(1 / 2, abs=0.05)
    assert trained(replace(HALF, reopening=False)).late() < 0.3


def test_an_inference_router_without_task_gradient_closes_all_gates():
    """The negative control: only the penalty trains it, for any coefficient."""
    run = trained(DEAD_FORM)
    output, right = run.evaluate()
    assert active_ratio(output) < 0.02
    assert run.coefficient[-1] < run.coefficient.max()  # the controller has long let go
    assert right < 0.65
    assert trained(QUARTER).evaluate()[1] > right + 0.1


def test_a_constant_coefficient_misses_the_target_that_the_controller_holds():
    weak, strong, held = (active_ratio(trained(moe).evaluate()[0]) for moe in (WEAK, STRONG, QUARTER))
    assert weak > 1.5 / 4
    assert strong < 0.5 / 4
    assert held == pytest.approx(1 / 4, rel=0.1)


@ratios
def test_no_expert_stays_closed_at_any_target_ratio(moe):
    output, _ = trained(moe).evaluate()
    assert output.statistics["active_experts"].min() >= 0.001


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@pytest.mark.parametrize("moe", [HALF, QUARTER], ids=["half", "quarter"])
def test_evaluation_outputs_have_the_scale_training_gates_outputs(moe):
    run = trained(moe)
    output, _ = run.evaluate()
    in_training = run.branches()
    for branch in (in_training.representation, in_training.views["training_router"].representation):
        assert 0.8 <= rms(branch) / rms(output.representation) <= 1.25


def expert_outputs(run: toy.Trained, way: str) -> list[Tensor]:
    """The output of the experts of each layer for the inference router's rows, without the bias."""
    layers = [module for module in run.model.modules() if isinstance(module, SparseMoE)]
    found: list[Tensor] = []

    def keep(module, args, result):
        own = result[0][: len(result[1].gates)]
        found.append((own - module.down.bias.transpose(0, 1)).detach())

    handles = [module.register_forward_hook(keep) for module in layers]
    run.branches() if way == "training" else run.evaluate()
    for handle in handles:
        handle.remove()
    return found


def test_gates_trained_by_the_task_have_the_scale_of_gates_in_evaluation():
    for before, after in zip(
        *(expert_outputs(trained(QUARTER), w) for w in ("training", "evaluation")), strict=True
    ):
        torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)
    for before, after in zip(
        *(expert_outputs(trained(DEAD_FORM), w) for w in ("training", "evaluation")), strict=True
    ):
        assert rms(before) / rms(after) > 1.25  # the negative control, which trains other gates
