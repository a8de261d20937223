"""Features of streamed logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets.schema import Feature

HISTORY_DIM = 16


def feature(name: str, kind: str, group: str, dim: int, **others: object) -> Feature:
    """A feature whose kind is given as text."""
    made = {"name": name, "kind": kind, "group": group, "embedding_dim": dim, **others}
    return Feature.model_validate(made)


def histories(streams: Sequence[str], vocabularies: Mapping[str, str], length: int) -> list[Feature]:
    """``<stream>_<what>`` for each stream and each ``what`` that a vocabulary is given for."""
    return [
        feature(
            f"{stream}_{what}",
            "sequence",
            "sequence",
            HISTORY_DIM,
            vocabulary=vocabulary,
            max_length=length,
        )
        for stream in streams
        for what, vocabulary in vocabularies.items()
    ]


def counts(names: Sequence[str], dim: int) -> list[Feature]:
    """Numbers of the group ``cross`` that are read by their logarithm."""
    return [feature(name, "numeric", "cross", dim, normalization="log1p") for name in names]


def rates(kinds: Sequence[str], outcomes: Sequence[str], dim: int) -> list[Feature]:
    """``<kind>_<outcome>_rate`` for each of both."""
    return [
        feature(f"{kind}_{outcome}_rate", "numeric", "cross", dim) for kind in kinds for outcome in outcomes
    ]
