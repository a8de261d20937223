"""The cost of an architecture, written by hand in its test.

The test of an architecture holds its `ClosedForm` as ``CLOSED_FORM``, and
`tests.baselines.test_every_architecture` compares it with the counted figures. The functions take the fields
of the Config, defaults included, so that a default cannot change unnoticed.

Notation
    T tokens, d token width; FLOPs are forward, a sample, GEMMs alone, a multiply-add is two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from harness.model.architectures import ARCHITECTURES


@dataclass(frozen=True)
class ClosedForm:
    """Each function takes (T, d) and the fields of the Config; ``configs`` are sizes to try it at."""

    params: Callable[..., int]
    flops: Callable[..., int]
    output_dim: Callable[..., int]
    configs: tuple[dict[str, int], ...]


def mlp_weights(in_dim: int, hidden_dim: int, num_layers: int) -> int:
    return in_dim * hidden_dim + (num_layers - 1) * hidden_dim**2


def cross_map_weights(dim: int, rank: int | None) -> int:
    """One full matrix, or two thin ones."""
    return dim**2 if rank is None else 2 * dim * rank


def closed_form(name: str) -> ClosedForm:
    """The closed form that an architecture's own test declares, found by the table of architectures."""
    package, _, module = ARCHITECTURES[name].partition(":")[0].rpartition(".")
    return import_module(f"tests.{package}.test_{module}").CLOSED_FORM
