"""The table of architectures: how each is called, and where its class lives. Nothing is imported for it."""

from __future__ import annotations

from typing import NamedTuple


class Listed(NamedTuple):
    """``name`` is how papers write it; ``path`` is ``module:Class``."""

    name: str
    path: str


LISTED = {
    "dlrm_mlp": Listed("DLRM-MLP", "baselines.dlrm_mlp:DLRMMLP"),
    "deepfm": Listed("DeepFM", "baselines.deepfm:DeepFM"),
    "dcn": Listed("DCN", "baselines.dcn:DCN"),
    "dcnv2": Listed("DCNv2", "baselines.dcnv2:DCNv2"),
    "rdcn": Listed("RDCN", "baselines.rdcn:RDCN"),
    "gdcn": Listed("GDCN", "baselines.gdcn:GDCN"),
    "autoint": Listed("AutoInt", "baselines.autoint:AutoInt"),
    "transformer": Listed("Transformer", "baselines.transformer:Transformer"),
    "hiformer": Listed("HiFormer", "baselines.hiformer:HiFormer"),
    "masknet": Listed("MaskNet", "baselines.masknet:MaskNet"),
    "wukong": Listed("Wukong", "baselines.wukong:Wukong"),
    "hstu": Listed("HSTU", "baselines.hstu:HSTU"),
    "finalmlp": Listed("FinalMLP", "baselines.finalmlp:FinalMLP"),
    "xdeepfm": Listed("xDeepFM", "baselines.xdeepfm:XDeepFM"),
    "moe": Listed("MoE", "baselines.moe:MoE"),
    "unimixer": Listed("UniMixer", "baselines.unimixer:UniMixer"),
    "dhen": Listed("DHEN", "baselines.dhen:DHEN"),
    "rankmixer": Listed("RankMixer", "rankmixer.model:RankMixer"),
    "tokenmixer_large": Listed("TokenMixer-Large", "rankmixer.tokenmixer_large:TokenMixerLarge"),
}


def is_plain(architecture: str, variant: str) -> bool:
    """Whether the row is the architecture itself and no variant of it."""
    return variant in ("", "default", architecture)


def display_name(architecture: str, variant: str = "") -> str:
    """How tables and figures call a row; an architecture of one's own goes by its class.

    >>> display_name("dcnv2"), display_name("rankmixer", "shared-ffn"), display_name("my.nets:Gated")
    ('DCNv2', 'RankMixer (shared-ffn)', 'Gated')
    """
    listed = LISTED.get(architecture)
    name = listed.name if listed else architecture.rpartition(":")[2]
    return name if is_plain(architecture, variant) else f"{name} ({variant})"
