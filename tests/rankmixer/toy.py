"""A small task that needs every token, and a training like that of the harness: losses, then `update`.

The label of a row is drawn from a probability in which each token meets the next one:

    logit = 3 / sqrt(T) * sum over t of (a_t . x_t) (b_t . x_{t+1}),    x, a and b normal, |a_t| = |b_t| = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.contract import Output
from rankmixer.model import RankMixer
from rankmixer.sparse_moe import SparseMoE

NUM_TOKENS, TOKEN_DIM, BATCH = 4, 4, 128


class Task:
    """Batches of the task, the same ones for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        weights = torch.Generator().manual_seed(7)
        shape = NUM_TOKENS, TOKEN_DIM
        self.a, self.b = (functional.normalize(torch.randn(shape, generator=weights), dim=1) for _ in "ab")

    def batch(self, rows: int = BATCH) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, d) and labels (B,)."""
        x = torch.randn(rows, NUM_TOKENS, TOKEN_DIM, generator=self.generator)
        met = (x * self.a).sum(2) * (x.roll(-1, dims=1) * self.b).sum(2)
        probability = torch.sigmoid(3 * met.sum(1) / NUM_TOKENS**0.5)
        return x, torch.bernoulli(probability, generator=self.generator)


def config(moe: Any = None, **fields: Any) -> RankMixer.Config:
    return RankMixer.Config(**{"model_dim": 16, "ffn_dim": 32, "num_layers": 2, "moe": moe} | fields)


@dataclass(frozen=True)
class Trained:
    """A trained model, and the history of its training."""

    model: RankMixer
    tower: nn.Linear
    active: Tensor  # (steps,): share of experts that the inference router opened
    coefficient: Tensor  # (steps,)

    def late(self) -> float:
        """Share of active experts over the last tenth of the training."""
        return self.active[-len(self.active) // 10 :].mean().item()

    def evaluate(self, rows: int = 4000) -> tuple[Output, float]:
        """The model's output for new rows in evaluation, and its accuracy."""
        tokens, labels = Task(seed=1).batch(rows)
        self.model.eval()
        with torch.no_grad():
            output = self.model(tokens)
            right = (self.tower(output.representation).squeeze(1) > 0) == labels.bool()
        return output, right.float().mean().item()

    def branches(self, rows: int = 4000) -> Output:
        """The model's output for the same rows in training."""
        tokens, _ = Task(seed=1).batch(rows)
        self.model.train()
        with torch.no_grad():
            return self.model(tokens)


def loss_of(output: Output, tower: nn.Module, labels: Tensor) -> Tensor:
    """The weighted mean of all views' losses, and the penalties."""
    views = [(1.0, output.representation), *output.views.values()]
    losses = [
        weight * functional.binary_cross_entropy_with_logits(tower(view).squeeze(1), labels)
        for weight, view in views
    ]
    task = torch.stack(losses).sum() / sum(weight for weight, _ in views)
    return task + sum(output.penalties.values(), torch.zeros(()))


@cache
def train(moe: SparseMoE.Config, steps: int = 500, learning_rate: float = 1e-3, seed: int = 0) -> Trained:
    """Train from a seed; a process trains each setting once. Takes about two seconds."""
    torch.manual_seed(seed)
    chosen = config(moe)
    model, tower = RankMixer(NUM_TOKENS, TOKEN_DIM, chosen), nn.Linear(chosen.model_dim, 1)
    optimizer = torch.optim.Adam([*model.parameters(), *tower.parameters()], lr=learning_rate, fused=True)
    task, active, coefficient = Task(seed=100 + seed), [], []
    for _ in range(steps):
        tokens, labels = task.batch()
        output = model(tokens)
        optimizer.zero_grad()
        loss_of(output, tower, labels).backward()
        optimizer.step()
        model.update(output.statistics)
        active.append(output.statistics["active_experts"].mean())
        coefficient.append(model.coefficient.value.mean().clone())
    return Trained(model, tower, torch.stack(active), torch.stack(coefficient))
