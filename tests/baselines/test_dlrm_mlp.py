from __future__ import annotations

import torch
from torch import nn

from baselines.dlrm_mlp import DLRMMLP
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, hidden_dim, num_layers=3: (
        mlp_weights(T * d, hidden_dim, num_layers) + num_layers * hidden_dim
    ),
    flops=lambda T, d, hidden_dim, num_layers=3: 2 * mlp_weights(T * d, hidden_dim, num_layers),
    output_dim=lambda T, d, hidden_dim, num_layers=3: hidden_dim,
    configs=({"hidden_dim": 8}, {"hidden_dim": 24, "num_layers": 1}, {"hidden_dim": 640, "num_layers": 4}),
)


def test_equals_loops_over_the_concatenated_tokens():
    model = scrambled(DLRMMLP(4, 3, DLRMMLP.Config(hidden_dim=5, num_layers=2)))
    weights = [(m.weight.tolist(), m.bias.tolist()) for m in model.mlp if isinstance(m, nn.Linear)]
    tokens = random_tokens(3, 4, 3)
    expected = [loops.mlp([v for token in row for v in token], weights) for row in tokens.tolist()]
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def test_the_order_of_the_tokens_matters():
    model = scrambled(DLRMMLP(4, 3, DLRMMLP.Config(hidden_dim=5)))
    tokens = random_tokens(3, 4, 3)
    assert not torch.allclose(model(tokens), model(tokens.flip(1)))
