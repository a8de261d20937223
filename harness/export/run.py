"""From a finished run to an artefact: rebuild the model, trace it, write it, check it, publish it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.export import ExportedProgram

from datasets.prepare.folder import is_full_disk, one_at_a_time, partial_folder, publish
from datasets.prepared import PreparedDataset, open_prepared
from files.checksums import sha256_of
from files.errors import InputError
from files.plain_text import one_line
from files.writing import check_writable, write_atomically
from harness.export.engine import MANIFEST_FILE
from harness.export.formats import Format, format_called, traced
from harness.export.manifest import SMALL_BYTES, manifest_of, with_parity
from harness.export.parity import Parity, check, first_row_alone, outputs_elsewhere
from harness.export.served import (
    DenseModel,
    Input,
    WholeModel,
    arrays_of,
    inputs_of,
    tokens_input,
    tokens_of,
)
from harness.model.assembly import RankingModel
from harness.records.record import PREDICTIONS_FILE, RECORD_FILE, Record, altered_predictions, read_record
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.training.batches import RankBatches
from harness.training.prediction import Predictions, predict
from harness.training.ranks import World
from harness.training.weights import WEIGHTS_FILE, read_weights

HERE = World(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class Artefact:
    """An exported model: its folder, its manifest and what the check found."""

    folder: Path
    manifest: dict[str, Any]
    parity: Parity


@dataclass(frozen=True)
class Trained:
    """A finished run with its weights and data, in fp32 on this CPU.

    ``as_run`` is the run's own spec, ``spec`` the one that the model was rebuilt from.
    """

    as_run: RunSpec
    spec: RunSpec
    record: Record
    model: RankingModel
    prepared: PreparedDataset

    @property
    def data(self) -> RankBatches:
        return RankBatches(self.spec, self.prepared, HERE)


def export_run(run: Path, format: str, dense_only: bool, out: Path | None, cache: Path) -> Artefact:
    """Export a run's model, if it scores as the run did; see `bench.export`.

    Raises InputError on bad input, RefusedError where the artefact does not pass the check. Then nothing is
    left behind, and an artefact that was there before stays.
    """
    chosen = format_called(format)
    record = exportable_record(run)
    name = f"{format}-dense-only" if dense_only else format
    out = out or run.absolute().parent.parent / "export" / run.absolute().name / name
    check_writable(out.parent, "give another folder with --out")
    if out.exists() and not (out / MANIFEST_FILE).is_file():
        raise InputError(f"{out}: holds something else than an artefact; give another folder with --out")
    trained = trained_run(run, record, cache)
    model, inputs, output = served(trained, dense_only)
    with one_at_a_time(out), partial_folder(out) as partial:
        write(chosen, format, traced(model, inputs), partial, inputs, output)
        if not dense_only:
            copy_vocabularies(trained.prepared, partial)
        manifest = manifest_of((format, chosen), trained.as_run, trained.prepared, inputs, output, partial)
        write_manifest(partial, manifest)
        parity = parity_of(partial, trained, dense_only, run)
        manifest = with_parity(manifest, parity)
        write_manifest(partial, manifest)
        publish(partial, out, replace=True)
    return Artefact(out, manifest, parity)


def write(
    chosen: Format, name: str, program: ExportedProgram, folder: Path, inputs: list[Input], output: str
) -> None:
    """Write a traced model; InputError where the format cannot express it."""
    try:
        chosen.write(program, folder / chosen.file, inputs, output)
    except Exception as error:
        if is_full_disk(error, folder):
            raise
        raise InputError(
            f"--format {name}: cannot write this model ({one_line(error)}); choose another format"
        ) from error


def exportable_record(run: Path) -> Record:
    """The record of a run that has weights; InputError, with the mend, where it has none."""
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; name a run's folder, as in out/quick/runs/<run>")
    if not (run / RECORD_FILE).is_file():
        raise InputError(
            f"{run}: is no finished run's folder (it has no {RECORD_FILE}); name one, as in "
            f"{run if (run / 'runs').is_dir() else 'out/quick'}/runs/<run>"
        )
    record = read_record(run)
    if record.is_reference:
        raise InputError(f"{run}: is a reference row, which has no model to export; name a model's run")
    if record.status != "finished":
        raise InputError(f"{run}: failed, so there is no model to export; name a finished run")
    if not (run / WEIGHTS_FILE).is_file():
        first = "name the run of seed 0, or " if record.seed else ""
        raise InputError(
            f"{run}: keeps no weights (only the first seed's run of each row does, in the first world, and "
            f"only small ones by default); {first}delete its folder and run the suite again with "
            "--keep weights"
        )
    return record


def trained_run(run: Path, record: Record, cache: Path) -> Trained:
    """The run's model with its weights, and its prepared data.

    Raises InputError where the weights do not fit the architecture's code, or the data are not in ``cache``.
    """
    as_run = RunSpec.model_validate(record.spec)
    weights = read_weights(run, record.spec_hash)
    prepared = find_prepared(cache, as_run)
    plain = as_run.training.model_copy(update={"precision": "fp32", "compile": False})
    spec = as_run.model_copy(update={"training": plain, "device": "cpu", "world_size": 1})
    model = build_model(spec, prepared, HERE)
    assert isinstance(model, RankingModel)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{run / WEIGHTS_FILE}: does not fit the code of {as_run.architecture!r}, which was edited since "
            f"({reason}); run the suite again"
        ) from None
    return Trained(as_run, spec, record, model.eval(), prepared)


def find_prepared(cache: Path, spec: RunSpec) -> PreparedDataset:
    """The prepared folder of a run's data; InputError where ``cache`` has none of this fingerprint."""
    for path in sorted(cache.glob("*/manifest.json")):
        try:
            fingerprint = json.loads(path.read_text(encoding="utf-8")).get("fingerprint")
        except (OSError, ValueError, AttributeError):
            continue  # another folder's trouble
        if fingerprint == spec.dataset_fingerprint:
            return open_prepared(path.parent)
    raise InputError(
        f"{cache}: holds no prepared {spec.place} of fingerprint {spec.dataset_fingerprint}, on whose test "
        "split the artefact is checked; name the right folder with --cache, or run the suite again, which "
        "prepares it"
    )


def served(trained: Trained, dense_only: bool) -> tuple[nn.Module, list[Input], str]:
    """What is exported, its inputs, and the name of its output."""
    spec, schema = trained.spec, trained.prepared.schema
    if dense_only:
        dense: Any = trained.model.dense
        return DenseModel(dense), [tokens_input(spec.num_tokens, spec.token_dim)], "logits"
    return WholeModel(trained.model, schema, spec.target_attention), inputs_of(schema), "probabilities"


def parity_of(folder: Path, trained: Trained, dense_only: bool, run: Path) -> Parity:
    """Score the test split with the artefact and compare; RefusedError where it differs."""
    outputs = np.concatenate(list(outputs_elsewhere(folder, first_row_alone(batches(trained, dense_only)))))
    scores = torch.sigmoid(torch.from_numpy(outputs)).numpy() if dense_only else outputs
    if trained.as_run.training.precision == "fp32":
        before, against = kept_predictions(run, trained), PREDICTIONS_FILE
    else:  # what the run scored in bf16 no fp32 model repeats
        before, against = predict(trained.model, trained.data, "test"), "the model in fp32"
    return check(before, against, scores, trained.spec.tasks)


def batches(trained: Trained, dense_only: bool) -> Iterator[dict[str, np.ndarray]]:
    """The test split as the artefact's inputs."""
    data = trained.data
    for batch, _ in data.read(data.reader("test")):
        yield tokens_of(batch, trained.model) if dense_only else arrays_of(batch, trained.prepared.schema)


def kept_predictions(run: Path, trained: Trained) -> Predictions:
    """What the run itself scored; InputError where the file was changed since."""
    path = run / PREDICTIONS_FILE
    if not path.is_file() or sha256_of(path) != trained.record.files.get(PREDICTIONS_FILE):
        raise altered_predictions(path)
    table, tasks = pq.read_table(path), trained.spec.tasks
    labels, scores = (
        np.stack([table[f"{kind}_{task}"].to_numpy() for task in tasks], axis=1)
        for kind in ("label", "score")
    )
    return Predictions(table["user"].to_numpy(), table["tier"].to_numpy(), labels, scores, None)


def copy_vocabularies(prepared: PreparedDataset, folder: Path) -> None:
    """Copy the files that map categories to indices, where they are small."""
    for table in prepared.table_sizes.keys() - prepared.hashing:
        source = prepared.path / "vocabulary" / f"{table}.parquet"
        if source.stat().st_size <= SMALL_BYTES:
            (folder / "vocabulary").mkdir(exist_ok=True)
            shutil.copyfile(source, folder / "vocabulary" / source.name)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write ``manifest.json``."""
    write_atomically(folder / MANIFEST_FILE, (json.dumps(manifest, indent=1) + "\n").encode())
