"""Recipes that a run's data, architecture or number of processes rule out, refused before training."""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from datasets.schema import Schema
from files.errors import InputError
from harness.model.assembly import build_backbone
from harness.model.embeddings import padded_width
from harness.records.spec import RunSpec


def check_recipe(spec: RunSpec, schema: Schema) -> None:
    """InputError that names the field and the mend where the run could not be what its spec says."""
    training = spec.training
    if training.sparse_optimizer == "rowwise_adagrad":
        _check_widths(schema)
    if spec.world_size == 1:
        return
    alone = f"run it in one process without --shares (its rows are dealt to {spec.world_size}), or"
    if training.updates_whole_tables:
        field = "table_l2" if training.table_l2 else "sparse_optimizer adam"
        raise InputError(
            f"training.{field}: every step updates whole tables, which no one of several processes holds; "
            f"{alone} choose adagrad, rowwise_adagrad or sgd without table_l2"
        )
    if training.order == "whole":
        raise InputError(
            "training.order: whole shuffles all rows together, and each process reads rows of its own; "
            f"{alone} choose shuffled"
        )
    with torch.device("meta"):
        backbone = build_backbone(spec.architecture, spec.num_tokens, spec.token_dim, spec.config)
    if any(isinstance(module, _BatchNorm) for module in backbone.modules()):
        raise InputError(
            f"architecture {spec.architecture!r}: batch normalisation takes the statistics of one process's "
            f"rows, so its numbers would depend on how many there are; {alone} turn batch_norm off"
        )


def _check_widths(schema: Schema) -> None:
    for feature in schema.sparse_features:
        if padded_width(feature.embedding_dim) != feature.embedding_dim:
            raise InputError(
                f"training.sparse_optimizer: rowwise_adagrad takes means over a row, and those of "
                f"{feature.name!r} are padded from {feature.embedding_dim} to "
                f"{padded_width(feature.embedding_dim)} numbers; choose another sparse_optimizer, or an "
                "embedding_dim that is a multiple of 4"
            )
