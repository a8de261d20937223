"""A prepared folder, opened and verified."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from datasets.schema import FIRST_INDEX, Schema
from files.checksums import json_checksum
from files.errors import InputError
from files.verified import first_changed

FORMAT_VERSION = 1


@dataclass(frozen=True)
class PreparedDataset:
    """An opened folder: shards by split, vocabularies, ``schema.json`` and ``manifest.json``.

    ``world`` is which of a dataset's worlds it is, None where no worlds were asked for. The folder does not
    store it.
    """

    path: Path
    schema: Schema
    manifest: dict
    world: int | None = None
    _fingerprint_of_all_worlds: str = ""

    @property
    def table_sizes(self) -> dict[str, int]:
        """Rows of each embedding table: its categories and the two reserved indices."""
        return {table: FIRST_INDEX + size for table, size in self.manifest["vocabulary_sizes"].items()}

    @property
    def hashing(self) -> dict[str, dict]:
        """What preparation found of each table of hashed ids (`datasets.prepare.buckets.count_buckets`)."""
        return self.manifest.get("hashing", {})

    @property
    def rows(self) -> dict[str, int]:
        """Rows by split."""
        return self.manifest["rows"]

    @property
    def num_users(self) -> int | None:
        """None where the rows belong to no user."""
        return self.manifest["num_users"] if self.has_users else None

    @property
    def has_users(self) -> bool:
        return self.schema.user_id is not None

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the source's identity and the schema."""
        return self.manifest["fingerprint"]

    @property
    def shared_fingerprint(self) -> str:
        """What all worlds of the dataset have in common: the fingerprint with no world chosen."""
        return self._fingerprint_of_all_worlds or self.fingerprint

    def in_world(self, world: int, shared_fingerprint: str) -> PreparedDataset:
        """The same data as one of several worlds, which share this fingerprint."""
        return replace(self, world=world, _fingerprint_of_all_worlds=shared_fingerprint)

    def acknowledging(self, leak_ok: list[str]) -> PreparedDataset:
        """The same data with these features' leaks acknowledged; the folder does not store this."""
        return replace(self, schema=self.schema.model_copy(update={"leak_ok": leak_ok}))

    def shards(self, split: str) -> list[dict]:
        """File name and rows of each shard of a split, in time order; InputError on an unknown split."""
        if split not in self.manifest["shards"]:
            raise InputError(
                f"{self.path}: there is no split {split!r}: choose from {', '.join(self.manifest['shards'])}"
            )
        return self.manifest["shards"][split]

    def columns(self, split: str, names: list[str]) -> dict[str, np.ndarray]:
        """Whole scalar columns of a split in time order, each (rows,); InputError on an unknown name."""
        files = [self.path / shard["file"] for shard in self.shards(split)]
        known = {field.name for field in pq.read_schema(files[0]) if not pa.types.is_nested(field.type)}
        for name in names:
            if name not in known:
                raise InputError(
                    f"{self.path}: no column {name!r} of single values: choose from "
                    f"{', '.join(sorted(known))}"
                )
        tables = [pq.read_table(file, columns=names) for file in files]
        return {name: np.concatenate([table[name].to_numpy() for table in tables]) for name in names}


def identity_fingerprint(identity: dict) -> str:
    """16 hex digits over a source's identity."""
    return json_checksum(identity)[:16]


def schema_fingerprint(schema: Schema) -> str:
    """16 hex digits over a schema."""
    return json_checksum(schema.model_dump(mode="json"))[:16]


def dataset_fingerprint(identity: dict, schema: Schema) -> str:
    """16 hex digits over everything that determines a prepared dataset's content."""
    return json_checksum([FORMAT_VERSION, identity, schema.model_dump(mode="json")])[:16]


def manifest_text(manifest: dict) -> str:
    """The content of ``manifest.json``: the manifest and a checksum over it."""
    return json.dumps({**manifest, "checksum": json_checksum(manifest)}, indent=2) + "\n"


def open_prepared(path: Path, verify: bool = False) -> PreparedDataset:
    """Open a prepared folder after verifying every file's size and sha256.

    A file that was hashed before and whose size and times are the same is hashed again only with ``verify``.

    Raises InputError, naming the file and ``--rebuild``, where the folder is half-written, was
    changed, or is of another format version.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    for name, entry in manifest["files"].items():
        _check_size(path / name, entry["bytes"])
    checksums = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    if changed := first_changed(path, checksums, hash_all=verify):
        raise _broken(path / changed, "was changed since it was prepared (sha256 differs)")
    try:
        schema = Schema.model_validate_json((path / "schema.json").read_text(encoding="utf-8"))
    except ValidationError:
        raise _broken(path / "schema.json", "is of another version of this program") from None
    return PreparedDataset(path, schema, manifest)


def _read_manifest(path: Path) -> dict:
    file = path / "manifest.json"
    if not path.is_dir():
        raise InputError(f"{path}: no such prepared dataset; run `run_bench.py data prepare` first")
    if not file.is_file():
        raise _broken(file, "is missing, so the folder was not written whole")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise _broken(file, "cannot be read") from None
    if version != FORMAT_VERSION:
        raise _broken(file, f"has format {version}, and this program reads format {FORMAT_VERSION}")
    if manifest.pop("checksum", None) != json_checksum(manifest):
        raise _broken(file, "was changed since it was written")
    return manifest


def _check_size(file: Path, expected: int) -> None:
    if not file.is_file():
        raise _broken(file, "is missing")
    found = file.stat().st_size
    if found != expected:
        raise _broken(file, f"has {found} bytes instead of {expected}: it is truncated or was changed")


def _broken(file: Path, what: str) -> InputError:
    return InputError(f"{file}: {what}; prepare the dataset again with --rebuild")
