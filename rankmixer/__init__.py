"""RankMixer, after which this benchmark is named, its variants, and its successor TokenMixer-Large.

`rankmixer.model` is the model of Zhu et al. 2025 (https://arxiv.org/abs/2507.15551). Every variant is a
switch of its configuration: the mixings in `rankmixer.mixing`, the networks in `rankmixer.feed_forward`, and
the experts in `rankmixer.sparse_moe` with their routers, controller and sparse evaluation.
`rankmixer.tokenmixer_large` is the successor. Both meet the contract `baselines.contract.Backbone` and use
the shared layers of `baselines.layers`, but no other architecture of `baselines`.

The classes can be imported from here: ``from rankmixer import RankMixer``. A class is loaded when it is first
used.
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
