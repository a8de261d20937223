"""Loads an artefact and computes its outputs. Needs PyTorch or ONNX Runtime, and nothing of this project.

    engine = load(folder)
    outputs = engine({"ids_user": ..., "numbers": ...})     # inputs by name -> (B, G)

As a script it computes batches for another process (`harness.export.parity`), and cannot import this project.

    python -I harness/export/engine.py FOLDER < batches > outputs      # as `send` writes them
"""

import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

MANIFEST_FILE = "manifest.json"
PROJECT = ("baselines", "rankmixer", "datasets", "harness", "suites", "reports", "files", "bench")

Engine = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def load(folder: Path | str) -> Engine:
    """The artefact as a function from its inputs, by their names, to its output.

    Raises ValueError naming the file where it is not the one that the manifest describes.
    """
    folder = Path(folder)
    manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    for name, sha256 in manifest["files"].items():
        with open(folder / name, "rb") as handle:
            if hashlib.file_digest(handle, "sha256").hexdigest() != sha256:
                raise ValueError(f"{folder / name}: was changed since it was exported (its sha256 differs)")
    names = [given["name"] for given in manifest["inputs"]]
    return LOADERS[manifest["format"]](folder / manifest["file"], names)


def _of_torch(call: Callable[..., Any], names: list[str]) -> Engine:
    import torch

    def engine(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return call(*(torch.from_numpy(batch[name]) for name in names)).numpy()

    return engine


def _torch_export(path: Path, names: list[str]) -> Engine:
    import torch

    return _of_torch(torch.export.load(path).module(), names)


def _aoti(path: Path, names: list[str]) -> Engine:
    import torch._inductor

    return _of_torch(torch._inductor.aoti_load_package(str(path)), names)


def _onnx(path: Path, names: list[str]) -> Engine:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def engine(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        return session.run(None, {name: batch[name] for name in names})[0]

    return engine


LOADERS: dict[str, Callable[[Path, list[str]], Engine]] = {
    "torch-export": _torch_export,
    "aoti": _aoti,
    "onnx": _onnx,
}


def send(stream: IO[bytes], **arrays: np.ndarray) -> None:
    """Write arrays with their names, for `receive` at the other end of a pipe."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    stream.write(len(content.getvalue()).to_bytes(8, "little") + content.getvalue())
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, np.ndarray]:
    """The next arrays; EOFError where there are no more."""
    size = stream.read(8)
    content = stream.read(int.from_bytes(size, "little")) if len(size) == 8 else b""
    if not content:
        raise EOFError
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def main(folder: str) -> None:
    """Outputs of the batches on stdin, one after another, to stdout."""
    for name in PROJECT:  # importing one of these raises an error
        sys.modules[name] = None  # type: ignore[assignment]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    engine = load(folder)
    while True:
        try:
            batch = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(answers, outputs=engine(batch))


if __name__ == "__main__":
    main(sys.argv[1])
