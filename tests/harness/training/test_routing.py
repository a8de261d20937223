"""What the harness does for experts: losses of views, statistics over ranks, routing in the record."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import harness.runs.run
from datasets.reader import ShardReader
from harness.model.assembly import Prediction
from harness.model.cost import CostCounter
from harness.model.tokens import Inputs
from harness.records.cost import Cost
from harness.records.folder import RunFolder
from harness.records.spec import Training
from harness.training.loop import STEPS_PER_LOOK, Trainer, routing_point
from harness.training.step import prediction_loss, train_step
from rankmixer.sparse_moe import SparseMoE
from tests.forked import forked_ranks
from tests.harness.small_runs import carry_out, small_spec

L, T, D, M, E = 2, 3, 12, 16, 4
TOKEN_DIM, TOWER, TASKS = 16, 16, 2  # of small_spec
TARGET = 0.5


def spec_with_experts(prepared, moe: dict | None = None, **training):
    chosen = {"num_experts": E, "active_ratio": TARGET, "initial_coefficient": 1e-3, **(moe or {})}
    config = {"model_dim": D, "ffn_dim": M, "num_layers": L, "moe": chosen}
    spec = small_spec(prepared, architecture="rankmixer", **training)
    return spec.model_copy(update={"config": config})


# The loss -------------------------------------------------------------------------------------


def cross_entropy(logits: list[list[float]], labels: list[list[float]]) -> float:
    """Mean over tasks of the mean over rows where the task is defined."""
    task_losses = []
    for task in range(len(labels[0])):
        known = [b for b in range(len(labels)) if not math.isnan(labels[b][task])]
        total = 0.0
        for b in known:
            p = 1 / (1 + math.exp(-logits[b][task]))
            total -= labels[b][task] * math.log(p) + (1 - labels[b][task]) * math.log(1 - p)
        task_losses.append(total / len(known))
    return sum(task_losses) / len(task_losses)


def test_the_loss_is_the_weighted_mean_of_the_losses_of_all_views():
    torch.manual_seed(0)
    own, first, second = (torch.randn(5, 2) for _ in range(3))
    labels = torch.tensor([[1, 0], [0, math.nan], [1, 1], [math.nan, 0], [0, 1.0]])
    prediction = Prediction(own, [(2.0, first), (0.5, second)], {}, {})
    loss = prediction_loss(prediction, labels, torch.tensor([4.0, 4.0]))
    losses = [cross_entropy(logits.tolist(), labels.tolist()) for logits in (own, first, second)]
    assert loss.item() == pytest.approx((losses[0] + 2 * losses[1] + 0.5 * losses[2]) / 3.5, rel=1e-5)


class Stub(nn.Module):
    """A model whose logit, penalty and statistic are its parameters' and its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Module()
        self.dense.logit, self.dense.gate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))
        self.dense.backbone = nn.Module()
        self.handed: list[dict] = []
        self.dense.backbone.update = self.handed.append

    def forward(self, batch) -> Prediction:
        logits = self.dense.logit.expand(len(batch.labels), 1)
        statistics = {"active_experts": torch.full((1, 1, 2), 0.2), "penalty_coefficient": torch.tensor(3.0)}
        return Prediction(logits, [], {"gates": 5 * self.dense.gate.sum()}, statistics)


class TwoRanks:
    """This rank's view of two; on the other every active share is 0.8 and all else as here."""

    size, device = 2, torch.device("cpu")

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values + (0.4 if values.dim() == 3 else values)


def step_of_stub():
    model = Stub()
    batch = SimpleNamespace(labels=torch.ones(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return model, train_step(model, batch, optimizer, Training(), TwoRanks())


def test_update_is_handed_the_mean_of_all_ranks_statistics():
    model, result = step_of_stub()
    assert len(model.handed) == 1
    for received in (model.handed[0], result.statistics):
        assert received["active_experts"].tolist() == [[pytest.approx([0.5, 0.5])]]
        assert received["penalty_coefficient"].item() == 3


def test_a_penalty_is_added_once_whatever_the_number_of_ranks():
    """Gradients are averaged over ranks: the task's are sums of shares, a penalty is whole on each."""
    model, result = step_of_stub()
    assert model.dense.gate.grad.item() == 5
    assert result.rows.item() == 8
    assert result.loss.item() == pytest.approx(4 * math.log(2) / 8)
    assert model.dense.logit.grad.item() == pytest.approx(2 * -0.5 * 4 / 8)


def test_a_point_of_the_record_averages_its_steps_and_experts_and_keeps_layers_and_tokens():
    generator = torch.Generator().manual_seed(0)
    shares = [torch.rand(2, 3, 4, generator=generator) for _ in range(5)]
    steps = [
        {"active_experts": s, "penalty_coefficient": torch.tensor(float(i))} for i, s in enumerate(shares)
    ]
    point = routing_point(steps)
    expected = [
        [sum(s[layer, t, e].item() for s in shares for e in range(4)) / 20 for t in range(3)]
        for layer in range(2)
    ]
    np.testing.assert_allclose(point["active"], expected, atol=1e-5)
    assert point["penalty_coefficient"] == 2.0
    for step_losses in steps:
        del step_losses["penalty_coefficient"]
    assert routing_point(steps)["penalty_coefficient"] is None


# The cost -------------------------------------------------------------------------------------

EXPERTS = 4 * L * T * D * M
TOWERS = TASKS * 2 * (D * TOWER + TOWER)
PROJECTION = 2 * T * TOKEN_DIM * D
ROUTER = L * 2 * T * D * E


def counted(prepared, spec) -> Cost:
    inputs = Inputs(
        tokenizer="chunks", num_tokens=T, token_dim=TOKEN_DIM, target_attention=False, tower_dim=TOWER
    )
    return CostCounter(prepared.schema, prepared.table_sizes, inputs, TASKS).cost("rankmixer", spec.config)


def test_active_flops_leave_out_the_experts_that_a_sample_does_not_use():
    cost = Cost(1, 2, 1000, 1000, 3000, expert_flops_per_sample=800)
    active = [cost.at_active_ratio(ratio).active_flops_per_sample for ratio in (0.0, 0.25, 1.0)]
    assert active == [200, 400, 1000]
    assert cost.at_active_ratio(0.25).flops_per_sample == 1000
    assert cost.at_active_ratio(0.25).at_active_ratio(1.0) == cost


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.25])
@pytest.mark.parametrize(("training", "views", "routers"), [("two_branch", 2, 2), ("plain", 1, 1)])
def test_the_cost_of_experts_is_its_closed_form(prepared, training, views, routers, ratio):
    cost = counted(prepared, spec_with_experts(prepared, {"training": training, "active_ratio": ratio}))
    assert cost.flops_per_sample == PROJECTION + EXPERTS + ROUTER + TOWERS
    assert cost.active_flops_per_sample == PROJECTION + ratio * EXPERTS + ROUTER + TOWERS
    forward_in_training = PROJECTION + views * (EXPERTS + TOWERS) + routers * ROUTER
    assert cost.train_flops_per_sample == 3 * forward_in_training


# A run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    """The record of a run, read back from disk, its folder, and the model that it trained."""
    built = []
    build = harness.runs.run.build_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.runs.run, "build_model", lambda *a: built.append(build(*a)) or built[-1])
        spec, out = spec_with_experts(prepared), tmp_path_factory.mktemp("routing")
        carry_out(spec, prepared, out)
    folder = RunFolder(out, spec.folder_name)
    return folder.record().as_json(), folder, built[0]


def test_the_record_holds_each_layer_s_and_token_s_active_share_and_the_coefficient_over_training(finished):
    record, _, _ = finished
    routing = record["routing"]
    assert set(routing) == {"target", "training", "test"}
    assert routing["target"] == TARGET
    assert [point["samples"] for point in routing["training"]] == [samples for samples, _ in record["curve"]]
    active = np.array([point["active"] for point in routing["training"]])
    assert active.shape[1:] == (L, T)
    assert ((active >= 0) & (active <= 1)).all()
    assert len(np.unique(active)) > L * T
    coefficients = [point["penalty_coefficient"] for point in routing["training"]]
    assert all(value > 0 for value in coefficients)
    assert len(set(coefficients)) > 1


def test_the_record_s_shares_of_test_rows_are_counted_row_by_row(finished, prepared):
    record, _, model = finished
    opened: list[list[torch.Tensor]] = [[] for _ in range(L)]
    layers = [module for module in model.modules() if isinstance(module, SparseMoE)]
    for number, layer in enumerate(layers):
        layer.register_forward_hook(
            lambda module, args, result, number=number: opened[number].append(result[1].gates > 0)
        )
    model.eval()
    with torch.no_grad():
        for batch in ShardReader(
            prepared, "test", 100, ["finish", "skip"]
        ).batches():  # not the run's batches
            model(batch)
    rows = prepared.rows["test"]
    expected = np.stack([torch.cat(layer).sum(0).numpy() / rows for layer in opened])
    test = record["routing"]["test"]
    assert np.array(test["active_experts"]).shape == (L, T, E)
    np.testing.assert_allclose(test["active_experts"], expected, atol=2e-5 + 1 / rows)
    assert test["active_ratio"] == pytest.approx(expected.mean(), abs=1e-4)


def test_the_record_s_active_flops_are_those_of_the_measured_ratio_and_not_of_the_target(finished):
    record, _, _ = finished
    ratio = record["routing"]["test"]["active_ratio"]
    assert ratio != TARGET
    cost = record["cost"]
    assert cost["flops_per_sample"] == PROJECTION + EXPERTS + ROUTER + TOWERS
    expected = cost["flops_per_sample"] - (1 - ratio) * EXPERTS
    assert cost["active_flops_per_sample"] == pytest.approx(expected, abs=1)
    assert cost["active_flops_per_sample"] < cost["flops_per_sample"]


def test_the_record_is_plain_json_without_nan(finished):
    _, folder, _ = finished
    text = (folder.final / "record.json").read_text()
    not_json: list[str] = []
    json.loads(text, parse_constant=not_json.append)
    assert not not_json


def test_a_model_without_experts_has_no_routing_and_uses_all_its_flops(prepared, tmp_path):
    spec = small_spec(prepared, architecture="rankmixer", epochs=1)
    spec = spec.model_copy(update={"config": {"model_dim": D, "ffn_dim": M}})
    record = carry_out(spec, prepared, tmp_path)
    assert record["routing"] is None
    assert record["cost"]["active_flops_per_sample"] == record["cost"]["flops_per_sample"]


def test_top_k_routing_has_no_coefficient_and_exactly_its_ratio(prepared, tmp_path):
    spec = spec_with_experts(prepared, {"routing": "top_k", "training": "plain"}, epochs=1)
    routing = carry_out(spec, prepared, tmp_path)["routing"]
    assert all(point["penalty_coefficient"] is None for point in routing["training"])
    assert routing["test"]["active_ratio"] == pytest.approx(TARGET, abs=1e-6)


def test_an_interrupted_run_with_experts_goes_on_and_ends_in_the_same_bits(
    prepared, finished, tmp_path, monkeypatch
):
    undisturbed, calm, _ = finished
    spec = spec_with_experts(prepared)
    look = Trainer._look

    def interrupted(self, losses, samples, seconds):
        if self.progress.step >= 110:
            raise KeyboardInterrupt
        look(self, losses, samples, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            carry_out(spec, prepared, tmp_path, checkpoint_seconds=0.0)
    steps = []

    def counting(self, losses, samples, seconds):
        steps.append(len(losses))
        look(self, losses, samples, seconds)

    monkeypatch.setattr(Trainer, "_look", counting)
    resumed = json.loads(json.dumps(carry_out(spec, prepared, tmp_path)))
    assert 0 < sum(steps) <= 2 * math.ceil(prepared.rows["train"] / 64) - 100
    for key in ("routing", "metrics", "validation", "curve", "cost"):
        assert resumed[key] == undisturbed[key]
    name, folder = "predictions.parquet", RunFolder(tmp_path, spec.folder_name)
    assert (folder.final / name).read_bytes() == (calm.final / name).read_bytes()


# Two ranks ------------------------------------------------------------------------------------

RANKS = 2
GROWTH, INITIAL, NEAR = 1.3, 1e-3, 0.503  # a target so near the share that ranks judge it differently
WORKER = """
import sys
from pathlib import Path
import torch
from datasets.prepared import open_prepared
from harness.training import step
from harness.training.ranks import start_world
from rankmixer.model import RankMixer
from tests.harness.small_runs import carry_out
from tests.harness.training.test_routing import two_rank_spec

local, handed, coefficients, shares = [], [], [], []
statistics, update = RankMixer._statistics, RankMixer.update

def seen(self, routings):
    result = statistics(self, routings)
    if self.training and not result["active_experts"].is_meta:  # that one counts the cost
        local.append(result["active_experts"].clone())
    return result

def steered(self, given):
    update(self, given)
    handed.append(given["active_experts"].clone())
    coefficients.append(self.coefficient.value.clone())

def counted(*arguments):
    defined, rows, share = count(*arguments)
    shares.append(share.clone())
    return defined, rows, share

RankMixer._statistics, RankMixer.update = seen, steered
count, step._count_labels = step._count_labels, counted
world = start_world(torch.device("cpu"))
prepared = open_prepared(Path(sys.argv[1]))
carry_out(two_rank_spec(prepared), prepared, Path(sys.argv[2]), world=world)
seen_here = {name: torch.stack(globals()[name]) for name in ("local", "handed", "coefficients", "shares")}
torch.save(seen_here, f"{sys.argv[2]}-{world.rank}.pt")
"""


def two_rank_spec(prepared):
    rule = {"coefficient_lead": 0.0, "coefficient_growth": GROWTH, "initial_coefficient": INITIAL}
    spec = spec_with_experts(prepared, rule | {"active_ratio": NEAR}, epochs=1, dense_lr=1e-4)
    return spec.model_copy(update={"world_size": RANKS})


@pytest.fixture(scope="module")
def two_ranks(prepared, tmp_path_factory):
    """What each of two gloo processes saw at every step, and the run's record."""
    out = tmp_path_factory.mktemp("two") / "out"
    assert forked_ranks(WORKER, prepared.path, out) == [0, 0]
    seen = [torch.load(Path(f"{out}-{rank}.pt")) for rank in range(RANKS)]
    return seen, RunFolder(out, two_rank_spec(prepared).folder_name).record().as_json()


def mean_over_rows(two_ranks) -> torch.Tensor:
    """Active shares of every step (S, L, T, E), of both ranks' rows together."""
    (first, second), _ = two_ranks
    return sum(rank["local"] * rank["shares"].view(-1, 1, 1, 1) for rank in (first, second))


def test_a_rank_counts_by_its_rows_and_not_at_all_where_it_has_run_out(two_ranks):
    (first, second), _ = two_ranks
    torch.testing.assert_close(first["shares"] + second["shares"], torch.ones(len(first["shares"])))
    assert set(first["shares"][:50].tolist()) == {0.5}  # whole batches on both
    assert 0 in torch.cat([first["shares"], second["shares"]])


def test_every_rank_is_handed_the_mean_of_all_ranks_shares(two_ranks):
    (first, second), _ = two_ranks
    assert not torch.equal(first["local"], second["local"])  # they saw different rows
    torch.testing.assert_close(first["handed"], mean_over_rows(two_ranks))
    assert torch.equal(first["handed"], second["handed"])


def test_the_coefficient_is_equal_on_both_ranks_and_follows_the_global_ratio(two_ranks):
    (first, second), _ = two_ranks
    assert torch.equal(first["coefficients"], second["coefficients"])

    def followed(shares) -> list[float]:
        """ReMoE's rule on these shares of steps."""
        value, found = INITIAL, []
        for share in shares.mean((1, 2, 3)).tolist():
            value *= GROWTH if share > NEAR else 1 / GROWTH
            value = min(max(value, 1e-8), 10.0)
            found.append(value)
        return found

    by_the_mean = followed(mean_over_rows(two_ranks))
    np.testing.assert_allclose(first["coefficients"].mean(1), by_the_mean, rtol=1e-4)
    for alone in (first, second):  # the ranks by themselves would have gone other ways
        assert not np.allclose(followed(alone["local"]), by_the_mean, rtol=1e-3)


def test_the_record_of_two_ranks_counts_the_rows_of_both(two_ranks, prepared):
    (first, _), record = two_ranks
    counts = np.array(record["routing"]["test"]["active_experts"]) * prepared.rows["test"]
    np.testing.assert_allclose(counts, counts.round(), atol=0.02)
    assert record["routing"]["test"]["active_ratio"] == pytest.approx(
        counts.mean() / prepared.rows["test"], abs=1e-4
    )
    stretch = STEPS_PER_LOOK
    expected = first["handed"][:stretch].mean((0, 3))
    np.testing.assert_allclose(record["routing"]["training"][0]["active"], expected, atol=2e-5)
