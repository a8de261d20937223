"""Python, the packages that everything needs, and the extras: groups of packages for one purpose each."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
import tomllib
from pathlib import Path

from harness.doctor.examination import Examination

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
SHOWN = ("torch", "torchrec", "numpy", "polars", "pyarrow", "pandas", "pydantic", "matplotlib")
NEEDED_BY_EVERYTHING = "bench"
INSTALL = "pip install -c requirements/lock.txt -e '.[{}]'"


def examine_packages(found: Examination) -> None:
    """Versions of what matters most; which extras are whole, and what the others lack."""
    found.line("python", platform.python_version())
    if sys.version_info[:2] != (3, 11):
        found.missing.append("Python 3.11; make setup PYTHON=/path/to/python3.11")
    for package in SHOWN:
        if is_installed(package):
            found.line(package, importlib.metadata.version(package))
    lacking = {extra: [name for name in names if not is_installed(name)] for extra, names in extras().items()}
    needed = [name for name in SHOWN if not is_installed(name)] + lacking.pop(NEEDED_BY_EVERYTHING)
    found.missing += [f"{package}; make setup" for package in dict.fromkeys(needed)]
    whole = [
        *([] if needed else [NEEDED_BY_EVERYTHING]),
        *(name for name, lack in lacking.items() if not lack),
    ]
    found.line("extras", ", ".join(whole) or "none is whole")
    for extra, lack in lacking.items():
        if lack:
            found.line("", f"{extra} lacks {', '.join(lack)}: {INSTALL.format(extra)}")


def extras() -> dict[str, list[str]]:
    """The packages of each extra, as ``pyproject.toml`` has them, without their own extras."""
    stated = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return {
        extra: [re.split(r"[^\w.-]", package, maxsplit=1)[0] for package in packages]
        for extra, packages in stated.items()
    }


def is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
