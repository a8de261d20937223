"""RankMixer, the architecture this benchmark is named after, its variants and its descendants.

`rankmixer.model` holds Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), every variant a switch of
one configuration: the mixings of `rankmixer.mixing`, the networks of `rankmixer.feed_forward`, the
experts of `rankmixer.sparse_moe` with their routers, their controller and their sparse evaluation.
`rankmixer.tokenmixer_large` holds its descendant. Both meet the contract of `baselines.contract.Backbone`
and share that file's layers, and no other of `baselines`.

The classes can be imported from here: ``from rankmixer import RankMixer``. A class is imported when it is
first asked for.
"""

from importlib import import_module as _import_module
from typing import Any

__version__ = "0.2.0"  # of the whole project: the package, the documentation and the records read it here

_MODULES = {"RankMixer": "model", "SparseMoE": "sparse_moe", "TokenMixerLarge": "tokenmixer_large"}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f"{__name__}.{_MODULES[name]}"), name)
