"""Requests to rank: rows of the training split, as candidates for one user each."""

from __future__ import annotations

from itertools import islice

import numpy as np

from datasets.prepared import PreparedDataset
from datasets.reader import ShardReader
from datasets.schema import Schema
from files.errors import InputError
from harness.export.served import NUMBERS, arrays_of
from harness.records.spec import RunSpec

REQUESTS = 64  # different ones, drawn at random under load
GROUPS_OF_CANDIDATES = ("item", "cross")  # all other groups are of the user and the moment

Request = dict[str, np.ndarray]


def user_features(schema: Schema) -> list[str]:
    """The features that all candidates of a request share: those outside `GROUPS_OF_CANDIDATES`.

    None where no feature is in these: which ones are the candidates' is then not known, and all are taken to
    be, since candidates that are alike would be no request.
    """
    shared = [feature.name for feature in schema.features if feature.group not in GROUPS_OF_CANDIDATES]
    return shared if len(shared) < len(schema.features) else []


def read_requests(spec: RunSpec, prepared: PreparedDataset, candidates: int) -> list[Request]:
    """At most `REQUESTS` requests, by the names of a model's inputs, (candidates, ...) each.

    A request is ``candidates`` successive rows of the shuffled training split; `user_features` are those of
    its first row in all of them.

    Raises InputError where the training split has fewer rows.
    """
    reader = ShardReader(prepared, "train", candidates, spec.tasks, shuffle_seed=0)
    whole = reader.num_rows // candidates
    if not whole:
        raise InputError(
            f"--candidates {candidates}: the training split of {spec.dataset!r} has {reader.num_rows} rows; "
            "give fewer candidates or a larger dataset"
        )
    batches = reader.batches()
    read = [arrays_of(batch, prepared.schema) for batch in islice(batches, min(REQUESTS, whole))]
    batches.close()
    return [with_one_user(arrays, prepared.schema) for arrays in read]


def with_one_user(arrays: Request, schema: Schema) -> Request:
    """The rows with the `user_features` of the first one."""
    shared = set(user_features(schema))
    found = {name: values.copy() for name, values in arrays.items()}
    for feature in schema.sparse_features:
        for name in (f"ids_{feature.name}", f"length_{feature.name}"):
            if feature.name in shared and name in found:
                found[name][:] = found[name][:1]
    column = 0
    for feature in schema.dense_features:
        columns = slice(column, column + feature.num_numbers)
        if feature.name in shared:
            found[NUMBERS][:, columns] = found[NUMBERS][:1, columns]
        column = columns.stop
    return found
