"""Tests that every architecture in the table must pass.

A new line in `harness.model.architectures.ARCHITECTURES` is tested here without any change. It only needs its
own test file with a ``CLOSED_FORM``.
"""

from __future__ import annotations

import dataclasses
import inspect
from functools import partial
from importlib import import_module
from itertools import count, pairwise
from pathlib import Path

import pytest
import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from baselines.contract import Knob
from harness.model.architectures import ARCHITECTURES, architecture_class
from harness.records.listed import display_name
from tests.baselines.closed_forms import closed_form
from tests.baselines.scrambled import random_tokens, scrambled

ROOT = Path(__file__).resolve().parents[2]
COUNT_BATCH = 8
TOWERS = 2  # towers Linear(output_dim, 32), ReLU, Linear(32, 1) go on top of every architecture
BUDGETS = (2.5e5, 1e6, 1e7, 1e8, 1e9)

pytestmark = pytest.mark.parametrize("name", ARCHITECTURES)


def build(name, num_tokens, token_dim, config):
    cls = architecture_class(name)
    return cls(num_tokens, token_dim, cls.Config(**config))


def tiny(name, steps=3):
    """An instance on 4 tokens of width 3, its knobs ``steps`` above their smallest values."""
    knobs = architecture_class(name).knobs(4, 3)
    config = {k.field: k.minimum + steps * k.step for k in (knobs.coarse, knobs.fine) if k}
    return build(name, 4, 3, config)


def counted_flops(name, num_tokens, token_dim, config):
    with torch.device("meta"):
        model = build(name, num_tokens, token_dim, config)
        tokens = torch.empty(COUNT_BATCH, num_tokens, token_dim)
    with FlopCounterMode(display=False) as counter:
        model(tokens)
    return counter.get_total_flops() / COUNT_BATCH


def test_output_has_the_promised_width(name):
    for config in closed_form(name).configs:
        with torch.device("meta"):
            model = build(name, 16, 5, config)
            output = model(torch.empty(3, 16, 5))
        assert output.shape == (3, model.output_dim)
        assert model.output_dim == closed_form(name).output_dim(16, 5, **config)


def test_every_parameter_gets_a_gradient_and_nothing_is_nan(name):
    torch.manual_seed(0)
    model = tiny(name, steps=15)  # wide enough that no ReLU layer is off altogether
    output = model(torch.randn(64, 4, 3))
    (output * torch.randn_like(output)).sum().backward()  # a plain sum is constant after a layer norm
    assert torch.isfinite(output).all()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
        assert parameter.grad.abs().max() > 0, label


def test_outputs_stay_finite_on_zero_and_on_huge_tokens(name):
    model = tiny(name)
    assert torch.isfinite(model(torch.zeros(2, 4, 3))).all()
    assert torch.isfinite(model(1e4 * torch.randn(2, 4, 3))).all()


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(name):
    def outcome(seed):
        torch.manual_seed(seed)
        output = tiny(name)(torch.linspace(-1, 1, 60).view(5, 4, 3))
        return output.detach()

    assert torch.equal(outcome(7), outcome(7))
    assert not torch.equal(outcome(7), outcome(8))


def test_a_row_alone_gives_what_it_gives_in_a_batch_of_seven(name):
    model = scrambled(tiny(name))
    tokens = random_tokens(7, 4, 3)
    alone = torch.cat([model(tokens[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(alone, model(tokens), rtol=1e-11, atol=1e-11)


def test_output_depends_on_every_token(name):
    model = scrambled(tiny(name))
    tokens = random_tokens(6, 4, 3).requires_grad_()
    output = model(tokens)
    (output * random_tokens(*output.shape)).sum().backward()
    assert (tokens.grad.abs().amax(dim=(0, 2)) > 0).all()


def test_counted_flops_equal_the_closed_form(name):
    form = closed_form(name)
    for num_tokens, token_dim in ((16, 16), (16, 64), (8, 5)):
        for config in form.configs:
            expected = form.flops(num_tokens, token_dim, **config)
            assert counted_flops(name, num_tokens, token_dim, config) == pytest.approx(expected, rel=1e-2)


def test_counted_parameters_equal_the_closed_form_exactly(name):
    form = closed_form(name)
    for num_tokens, token_dim in ((16, 16), (8, 5)):
        for config in form.configs:
            with torch.device("meta"):
                model = build(name, num_tokens, token_dim, config)
            counted = sum(parameter.numel() for parameter in model.parameters())
            assert counted == form.params(num_tokens, token_dim, **config)


def test_flops_grow_with_each_knob(name):
    cls = architecture_class(name)
    knobs = [knob for knob in (cls.knobs(16, 8).coarse, cls.knobs(16, 8).fine) if knob]
    for moved in knobs:
        flops = [
            counted_flops(
                name, 16, 8, {k.field: k.minimum + (i if k is moved else 2) * k.step for k in knobs}
            )
            for i in (0, 1, 2, 5, 30)
        ]
        assert all(smaller < larger for smaller, larger in pairwise(flops)), moved


def nearest(cost, knob: Knob, target: float) -> int:
    """The value of ``knob`` whose ``cost`` is closest to the target, by bisection."""
    low, high = 0, 1
    while cost(knob.minimum + high * knob.step) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(knob.minimum + middle * knob.step) < target else (low, middle)
    values = [knob.minimum + i * knob.step for i in (low, high)]
    return min(values, key=lambda value: abs(cost(value) - target))


def settings_near(target, cost, knobs):
    """For each width that the target pays for with a fine value between half and twice its customary one,
    the fine value that comes nearest to the target."""
    coarse, fine = knobs.coarse, knobs.fine
    if fine is None:
        yield {coarse.field: nearest(lambda value: cost(**{coarse.field: value}), coarse, target)}
        return

    def cost_at_twice_the_customary_fine_value(width):
        doubled = max(fine.minimum, int(2 * knobs.fine_per_coarse * width))
        return cost(**{coarse.field: width, fine.field: doubled})

    first = nearest(cost_at_twice_the_customary_fine_value, coarse, target) - coarse.step
    for width in count(max(coarse.minimum, first), coarse.step):
        with_width = partial(cost, **{coarse.field: width})
        narrowest = max(fine.minimum, int(knobs.fine_per_coarse * width / 2))  # of the customary ones
        if with_width(**{fine.field: narrowest}) > target:
            return
        value = nearest(lambda value, cost=with_width: cost(**{fine.field: value}), fine, target)
        yield {coarse.field: width, fine.field: value}


@pytest.mark.parametrize("token_dim", [16, 32, 64])
def test_knobs_reach_every_budget_with_a_fine_value_near_the_customary_one(name, token_dim):
    form, knobs = closed_form(name), architecture_class(name).knobs(16, token_dim)

    def cost(**config):
        towers = TOWERS * 2 * 32 * (form.output_dim(16, token_dim, **config) + 1)
        return form.flops(16, token_dim, **config) + towers

    def is_customary(config):
        if knobs.fine is None:
            return True
        customary = knobs.fine_per_coarse * config[knobs.coarse.field]
        return customary / 2 <= config[knobs.fine.field] <= 2 * customary

    for target in BUDGETS:
        assert any(
            is_customary(config) and abs(cost(**config) / target - 1) < 0.01
            for config in settings_near(target, cost, knobs)
        ), target


def test_gradients_agree_with_finite_differences(name):
    model = scrambled(tiny(name))
    names = [label for label, _ in model.named_parameters()]

    def output(tokens, *parameters):
        return functional_call(model, dict(zip(names, parameters, strict=True)), (tokens,))

    inputs = (random_tokens(2, 4, 3).requires_grad_(), *model.parameters())
    torch.autograd.gradcheck(output, inputs, fast_mode=True)


def test_runs_as_one_graph_under_torch_compile(name):
    model = tiny(name)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    tokens = torch.randn(3, 4, 3)
    torch.testing.assert_close(compiled(tokens), model(tokens))


def test_unknown_and_missing_config_fields_are_refused(name):
    config_class = architecture_class(name).Config
    with pytest.raises(TypeError, match="hiden_dim"):
        config_class(**closed_form(name).configs[0], hiden_dim=8)
    with pytest.raises(TypeError, match="missing"):
        config_class()


def test_config_is_frozen_and_its_docstring_names_the_knobs(name):
    cls = architecture_class(name)
    config = cls.Config(**closed_form(name).configs[0])
    knobs = cls.knobs(16, 8)
    for knob in (knobs.coarse, knobs.fine):
        if knob:
            assert knob.field in cls.Config.__doc__
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(config, knob.field, 1)


def test_a_width_below_one_is_refused_with_its_name(name):
    config = dict(closed_form(name).configs[0])
    for field in config:
        with pytest.raises(ValueError, match=rf"{field} is 0; set it to 1 or more"):
            build(name, 16, 8, config | {field: 0})


def test_file_states_its_paper_and_shapes_and_class_its_cost(name):
    cls = architecture_class(name)
    module = import_module(cls.__module__)
    assert "https://arxiv.org/abs/" in module.__doc__
    assert "\nShapes\n" in module.__doc__
    assert "Cost\n" in inspect.getdoc(cls)


def test_it_declares_its_row_of_the_readme(name):
    module = import_module(architecture_class(name).__module__)
    about = module.ABOUT
    assert all(link in module.__doc__ for link in about.papers.values() if "arxiv.org" in link)
    assert display_name(name) in module.__doc__.partition("\n")[0]
    assert 2010 <= about.year <= 2030
