"""Batch normalisation, dropout and unequal widths of the MLPs, in every architecture that has one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from baselines.layers import MLP, BatchNorm, MLPConfig
from files.errors import InputError
from harness.model.architectures import ARCHITECTURES, architecture_class
from harness.model.assembly import build_backbone
from harness.model.cost import CostCounter
from harness.model.tokens import Inputs
from tests.baselines.closed_forms import closed_form
from tests.baselines.scrambled import random_tokens, scrambled
from tests.harness.schemas import TABLE_SIZES, small_schema

WITH_MLP = [name for name in ARCHITECTURES if issubclass(architecture_class(name).Config, MLPConfig)]
OTHER_WIDTHS = {"masknet": {"hidden_dim": 12}}  # those of its blocks
T, D = 8, 6


def settings(name: str) -> dict:
    """The knobs that ``hidden_dims`` leaves."""
    knobs = architecture_class(name).knobs(T, D).each
    return {knob.field: 8 for knob in knobs if knob.field != "hidden_dim"} | OTHER_WIDTHS.get(name, {})


def parameters(name: str, config: dict) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_backbone(name, T, D, config).parameters())


def flops(name: str, config: dict) -> int:
    inputs = Inputs(num_tokens=T, token_dim=D, target_attention=False, tower_dim=4)
    return CostCounter(small_schema(), TABLE_SIZES, inputs, 1).budgeted(name, config, "flops_per_sample")


def test_these_architectures_have_an_mlp():
    assert set(WITH_MLP) == {
        *("dlrm_mlp", "deepfm", "dcn", "dcnv2", "rdcn", "gdcn", "xdeepfm", "masknet", "wukong")
    }


def test_the_readme_names_the_architectures_whose_mlp_takes_these_fields():
    readme = (Path(__file__).parents[2] / "baselines/README.md").read_text(encoding="utf-8")
    [named] = re.findall(r"the MLPs of (.*?) \(in fields of each\s+stream\) take", readme, re.DOTALL)
    labels = dict(re.findall(r"^\| ([\w-]+) \| `([\w.:]+)` \|", readme, re.MULTILINE))
    expected = {ARCHITECTURES[name] for name in [*WITH_MLP, "finalmlp"]}
    assert {labels[label] for label in re.split(r",\s+|\s+and\s+", named)} == expected


@pytest.mark.parametrize("name", WITH_MLP)
def test_widths_one_by_one_cost_what_the_closed_form_says_and_batch_norm_two_more_an_output(name):
    form, others = closed_form(name), settings(name)
    depth = "num_mlp_layers" if name == "wukong" else "num_layers"
    equal = others | {"hidden_dim": 12, depth: 2}
    widths = others | {"hidden_dims": [12, 12]}
    assert parameters(name, widths) == form.params(T, D, **equal)
    assert flops(name, widths) - flops(name, equal) == 0
    stacks = 2 if name == "wukong" else 1
    normalised = widths | {"batch_norm": True, "dropout": 0.5}
    assert parameters(name, normalised) - parameters(name, widths) == stacks * 2 * (12 + 12)
    assert flops(name, normalised) == flops(name, widths)


@pytest.mark.parametrize("name", ["dlrm_mlp", "dcnv2", "xdeepfm", "masknet"])
def test_a_second_width_of_seven_changes_the_cost_of_the_two_maps_beside_it_alone(name):
    """Weights 12 x 12 and a bias of 12 become 12 x 7 and 7; the tower reads 5 numbers less."""
    others = settings(name)
    equal, unequal = others | {"hidden_dims": (12, 12)}, others | {"hidden_dims": (12, 7)}
    assert parameters(name, equal) - parameters(name, unequal) == 12 * 5 + 5
    assert flops(name, equal) - flops(name, unequal) == 2 * 12 * 5 + 2 * 5 * 4  # a tower four wide


def test_a_budget_sets_the_knobs_that_widths_leave_and_says_where_there_are_none():
    inputs = Inputs(num_tokens=T, token_dim=D, target_attention=False, tower_dim=4)
    counter = CostCounter(small_schema(), TABLE_SIZES, inputs, 1)
    match = counter.match("dcnv2", {"hidden_dims": [20, 10]}, "flops_per_sample", 2e4)
    assert abs(match.miss) < 0.03
    assert match.config["hidden_dims"] == [20, 10]
    assert set(match.config) == {"hidden_dims", "rank"}
    with pytest.raises(InputError, match="its config sets hidden_dims, so nothing is left"):
        counter.match("dlrm_mlp", {"hidden_dims": [20, 10]}, "flops_per_sample", 2e4)


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        (
            "dlrm_mlp",
            {"hidden_dim": 8, "hidden_dims": [8, 8]},
            "hidden_dims sets every width, and hidden_dim",
        ),
        (
            "dlrm_mlp",
            {"hidden_dims": [8, 8], "num_layers": 4},
            "hidden_dims has 2 widths, and num_layers is 4",
        ),
        ("dlrm_mlp", {"hidden_dims": []}, r"hidden_dims is \[\]; give one width or more"),
        ("dlrm_mlp", {"hidden_dims": [8, 0]}, "hidden_dims is .8, 0.; give one width"),
        ("dcn", {"hidden_dim": 8, "dropout": 1.0}, "dropout is 1.0; set it to 0 or more and below 1"),
        ("dcn", {"batch_norm": True}, "hidden_dim: is missing; add it to the row's config, or give"),
        (
            "finalmlp",
            {"first_dims": [8], "first_dim": 8, "second_dim": 8},
            "set one of first_dim and first_dims",
        ),
    ],
)
def test_widths_that_contradict_each_other_are_refused_in_a_sentence(name, config, words):
    with pytest.raises(InputError, match=words):
        build_backbone(name, T, D, config)


def test_the_streams_of_finalmlp_have_widths_norms_and_dropout_of_their_own():
    config = {
        **{"first_dims": [12, 8], "second_dims": [6], "num_heads": 2},
        **{"first_batch_norm": True, "second_dropout": 0.5},
    }
    model = build_backbone("finalmlp", T, D, config)
    assert [type(layer).__name__ for layer in model.first[1]] == ["Linear", "BatchNorm", "ReLU"] * 2
    assert [type(layer).__name__ for layer in model.second[1]] == ["Linear", "ReLU", "Dropout"]
    gates, bilinear, norm = 2 * T * D, 2 * (8 // 2) * (6 // 2), 2 * (12 + 8)
    weights = T * D * 12 + 12 + 12 * 8 + 8 + T * D * 6 + 6
    assert sum(p.numel() for p in model.parameters()) == gates + bilinear + norm + weights


def test_a_layer_is_linear_then_normalised_over_the_batch_then_cut_off_at_zero():
    layer = scrambled(MLP(5, hidden_dims=(4,), batch_norm=True))
    x = random_tokens(7, 5)
    linear, norm = layer[0], layer[1]
    mapped = x.numpy() @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    mean, var = mapped.mean(0), mapped.var(0)
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    expected = np.maximum((mapped - mean) / np.sqrt(var + norm.eps) * scale + shift, 0)
    torch.testing.assert_close(layer.train()(x), torch.from_numpy(expected))
    np.testing.assert_allclose(norm.running_mean, 0.1 * mean)  # of a start at 0, PyTorch's share of 0.1


def test_a_batch_of_one_row_is_normalised_as_in_evaluation_and_leaves_the_statistics_alone():
    layer = BatchNorm(3)
    layer(torch.randn(16, 3))
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    alone = torch.randn(1, 3)
    trained = layer(alone)
    torch.testing.assert_close(trained, layer.eval()(alone))
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


# Parameters as the logs of BARS print them, less those of the embeddings: 53,890 of frappe_x1 (F = 100) and
# of movielenslatest_x1 the difference of two rows. A linear head stands for the tower.
PUBLISHED = {
    ("dlrm_mlp", 10, "DLRM_frappe_x1"): ({"hidden_dims": [400] * 3}, 417_891 - 53_890),
    ("dcn", 10, "DCN_frappe_x1"): ({"hidden_dims": [400] * 3}, 418_591 - 53_890),
    ("dcnv2", 10, "DCNv2_frappe_x1"): (
        {"hidden_dims": [400] * 3, "rank": None, "num_cross_layers": 4},
        458_391 - 53_890,
    ),
    ("dlrm_mlp", 3, "DNN, DLRM_movielenslatest_x1"): ({"hidden_dims": [400] * 3}, 1_574_392 - 1_238_391),
}


@pytest.mark.parametrize(("name", "fields", "row"), PUBLISHED)
def test_published_sizes_have_the_published_number_of_parameters(name, fields, row):
    """BARS counts its DNN's network twice, so that two of its rows differ by one of it."""
    config, published = PUBLISHED[name, fields, row]
    with torch.device("meta"):
        backbone = build_backbone(name, fields, 10, config | {"batch_norm": True, "dropout": 0.2})
        head = nn.Linear(backbone.output_dim, 1)
    counted = sum(p.numel() for module in (backbone, head) for p in module.parameters())
    assert counted == published
