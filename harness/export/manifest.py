"""``manifest.json`` of an artefact: what it takes and gives, where it comes from, and how it was checked."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from datasets.prepare.encode import CLIP
from datasets.prepared import PreparedDataset
from files.checksums import sha256_of
from harness.export.formats import Format
from harness.export.parity import Parity
from harness.export.served import NUMBERS, Input
from harness.machine.environment import processor
from harness.records.spec import RunSpec
from rankmixer import __version__

FORMAT_VERSION = 1
SMALL_BYTES = 1_000_000  # a vocabulary's file up to which it is copied into the artefact


def manifest_of(
    format: tuple[str, Format],
    spec: RunSpec,
    prepared: PreparedDataset,
    inputs: list[Input],
    output: str,
    folder: Path,
) -> dict[str, Any]:
    """The manifest of the files that lie in ``folder``, but for its parity."""
    name, kind = format
    files = {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*.*"))}
    used = {given.vocabulary for given in inputs} - {None}
    return {
        "manifest_version": FORMAT_VERSION,
        "format": name,
        "file": kind.file,
        "files": files,
        "run": spec.folder_name,
        "spec_hash": spec.hash,
        "architecture": spec.architecture,
        "dataset": spec.dataset,
        "dataset_fingerprint": spec.dataset_fingerprint,
        "inputs": [_described(given) for given in inputs],
        "output": {"name": output, "dtype": "float32", "shape": ["batch", len(spec.tasks)]},
        "tasks": spec.tasks,
        "precision": "fp32",
        "vocabularies": {
            table: {"rows": rows, "file": _vocabulary_file(table, files)} | _hashing(prepared, table)
            for table, rows in prepared.table_sizes.items()
            if table in used
        },
        "reserved_indices": {"missing": 0, "unseen": 1},
        "normalization": _normalization(prepared) if NUMBERS in (given.name for given in inputs) else {},
        "versions": _versions(kind),
        "processor": processor() if kind.needs_compiler else None,
    }


def _normalization(prepared: PreparedDataset) -> dict[str, Any]:
    """How the number ``x`` of each feature becomes that of the model, and what a missing one becomes.

    As `datasets.prepare.encode.normalized`; a vector has a mean and std for each component.
    """
    learned = prepared.manifest["normalization"]
    found: dict[str, Any] = {}
    for feature in prepared.schema.dense_features:
        constants, formula = learned.get(feature.name), "x"
        if feature.normalization == "log1p":
            formula = "sign(x) * log1p(abs(x))"
        if constants is not None:
            formula = f"clip(({formula} - mean) / std, -clip, clip)"
            constants = {"clip": CLIP} | constants
        found[feature.name] = {
            "kind": feature.normalization,
            "formula": formula,
            "missing": 0.0,
            **(constants or {}),
        }
    return found


def with_parity(manifest: dict[str, Any], parity: Parity) -> dict[str, Any]:
    """The manifest with what the check of the artefact found."""
    return manifest | {"parity": asdict(parity)}


def _described(given: Input) -> dict[str, Any]:
    return {
        "name": given.name,
        "dtype": given.dtype,
        "shape": ["batch", *given.shape],
        "meaning": given.meaning,
        "vocabulary": given.vocabulary,
    }


def _hashing(prepared: PreparedDataset, table: str) -> dict[str, Any]:
    """How ids become indices where they are hashed."""
    hashing = prepared.hashing.get(table)
    return {"hash_buckets": hashing["buckets"], "hash": hashing["hash"]} if hashing else {}


def _vocabulary_file(table: str, files: dict[str, str]) -> str | None:
    name = f"vocabulary/{table}.parquet"
    return name if name in files else None


def _versions(kind: Format) -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in kind.packages}
    return {
        "rankmixer_bench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **packages,
    }
