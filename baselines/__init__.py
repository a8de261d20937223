"""Published feature-interaction architectures, one file each.

Every architecture is an `nn.Module` that takes the benchmark's tokens (B, T, d), which are the same for all,
and returns a representation (B, output_dim). `baselines.contract.Backbone` is the contract. A projection of
the tokens to another width is part of the architecture and of its cost. An architecture knows nothing about
features, tasks, losses or training.

Every file names the paper, says what is implemented and what is not, and gives the shapes and the cost as a
formula, which the tests compare with counted parameters and FLOPs.

The classes can be imported from here: ``from baselines import DCNv2``. A class is loaded when it is first
used, from the file that has its name in lower case.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import Any


def __getattr__(name: str) -> Any:
    module = {path.stem.replace("_", ""): path.stem for path in _Path(__file__).parent.glob("*.py")}
    if name != name.lower() and name.lower() in module:
        found = getattr(_import_module(f"{__name__}.{module[name.lower()]}"), name, None)
        if found is not None:
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
