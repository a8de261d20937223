"""Architectures by their names: the classes, and the hash of their sources."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

from baselines.contract import Configurable
from files.errors import InputError
from harness.records.listed import LISTED

ARCHITECTURES = {name: listed.path for name, listed in LISTED.items()}
CONTRACT = "baselines/README.md says what a class must have"


def source_hash(name: str) -> str:
    """Twelve hex digits over the files that define an architecture, so that an edited one is run anew.

    Those are its class's own and what they import at their top, directly or not, from its package (of a file
    in no package: from the files beside it) and from ours, each with the C++ of its name beside it.
    """
    module = inspect.getmodule(architecture_class(name))
    assert module is not None
    packages = {
        module.__name__.partition(".")[0],
        *(path.partition(".")[0] for path in ARCHITECTURES.values()),
    }
    if not module.__package__:
        packages |= {path.stem for path in Path(inspect.getfile(module)).parent.glob("*.py")}
    digest = hashlib.sha256()
    for found in sorted(_imported(module, packages, {module.__name__})):
        path = Path(inspect.getfile(sys.modules[found]))
        for source in (path, path.with_suffix(".cpp")):
            digest.update(source.read_bytes() if source.exists() else b"")
    return digest.hexdigest()[:12]


def _imported(module: ModuleType, packages: set[str], seen: set[str]) -> set[str]:
    """``seen`` with the modules of ``packages`` that ``module`` imports, and those that they import."""
    for name in _import_statements(module):
        if name not in seen and name.partition(".")[0] in packages and name in sys.modules:
            seen.add(name)
            _imported(sys.modules[name], packages, seen)
    return seen


def _import_statements(module: ModuleType) -> Iterator[str]:
    """Names of the modules that a module imports at its top, and of what it takes from them."""
    waiting: list[ast.AST] = [ast.parse(Path(inspect.getfile(module)).read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                source = resolve_name("." * node.level + source, module.__package__)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def architecture_path(name: str) -> str:
    """``module:Class`` of an architecture, not imported; InputError if a name has neither."""
    path = ARCHITECTURES.get(name, name)
    if ":" not in path:
        raise InputError(
            f"no architecture {name!r}: choose from {', '.join(ARCHITECTURES)}, "
            "or name your own as package.module:Class"
        )
    return path


def left_out(name: str) -> str:
    """What the defaults of a shipped architecture leave out of its paper's model; empty if nothing."""
    about = getattr(sys.modules[architecture_class(name).__module__], "ABOUT", None)
    return about.partial if about else ""


def architecture_class(name: str) -> Any:
    """The class called ``name``, or a user's own as ``package.module:Class``.

    Raises InputError if there is no such name, module or class.
    """
    path = architecture_path(name)
    module_name, _, attribute = path.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"architecture {name!r}: no module {error.name!r}; run from its folder or put it on PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:
        raise InputError(
            f"architecture {name!r}: importing {module_name!r} raised "
            f"{type(error).__name__}: {error}; mend the module"
        ) from error
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise InputError(f"architecture {name!r}: module {module_name!r} has no {attribute!r}") from None
    if not isinstance(found, Configurable):
        raise InputError(f"architecture {name!r}: has no Config; {CONTRACT}")
    return found
