"""Checksums of files, and of JSON objects that contain their own checksum."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

CHECKSUM = "checksum"


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """The file's md5 in hex, which many publishers of data state."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def json_checksum(content: object) -> str:
    """The sha256, in hex, of JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """``content``, as JSON reads it back, with a checksum over it; ValueError where a number is not finite.

    Example
        >>> is_altered(sealed({"auc": 0.75}))
        False
        >>> is_altered(sealed({"auc": 0.75}) | {"auc": 0.85})
        True
    """
    plain = json.loads(json.dumps(content, allow_nan=False))
    return plain | {CHECKSUM: json_checksum(plain)}


def is_altered(content: dict[str, Any]) -> bool:
    """Whether a sealed object was changed; one without a checksum (an earlier version's) was not."""
    plain = {name: value for name, value in content.items() if name != CHECKSUM}
    return CHECKSUM in content and content[CHECKSUM] != json_checksum(plain)
