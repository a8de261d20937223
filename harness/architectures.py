"""The table of architectures: a name, and where its class lives.

Looking the table up imports nothing, so ``list`` and ``--help`` start at once.
"""

from __future__ import annotations

import hashlib
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from datasets.errors import InputError

ARCHITECTURES = {
    "dlrm_mlp": "baselines.dlrm_mlp:DLRMMLP",
    "deepfm": "baselines.deepfm:DeepFM",
    "dcn": "baselines.dcn:DCN",
    "autoint": "baselines.autoint:AutoInt",
    "transformer": "baselines.transformer:Transformer",
    "rankmixer": "rankmixer.model:RankMixer",
}
CONTRACT = "baselines/README.md says what a class must have"


def source_hash(name: str) -> str:
    """Twelve hex digits over the file that defines an architecture, so that an edited one is run anew."""
    return hashlib.sha256(Path(inspect.getfile(architecture_class(name))).read_bytes()).hexdigest()[:12]


def architecture_class(name: str) -> Any:
    """The class called ``name``, or a user's own as ``package.module:Class``.

    Raises InputError if there is no such name, module or class.
    """
    path = ARCHITECTURES.get(name, name)
    if ":" not in path:
        raise InputError(
            f"no architecture {name!r}: choose from {', '.join(ARCHITECTURES)}, "
            "or name your own as package.module:Class"
        )
    module_name, _, attribute = path.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"architecture {name!r}: no module {error.name!r}; run from its folder or put it on PYTHONPATH"
        ) from None
    except Exception as error:
        raise InputError(
            f"architecture {name!r}: importing {module_name!r} raised "
            f"{type(error).__name__}: {error}; mend the module"
        ) from error
    if not hasattr(module, attribute):
        raise InputError(f"architecture {name!r}: module {module_name!r} has no {attribute!r}")
    found = getattr(module, attribute)
    if not hasattr(found, "Config"):
        raise InputError(f"architecture {name!r}: has no Config; {CONTRACT}")
    return found
