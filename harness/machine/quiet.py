"""Keeps what libraries say of themselves off the user's terminal."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Keep the libraries' start-up noise off the terminal; errors still show.

    The profiler's is read when torch is imported, so this is called before.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")
    warnings.filterwarnings("ignore", module=r"torch.*|torchrec.*|fbgemm.*")
    warnings.filterwarnings("ignore", message="Please use DTensor")  # TorchRec keeps the older class
    warnings.filterwarnings(
        "ignore", message=r".isinstance\(treespec, LeafSpec\)"
    )  # torch's, while it exports
    warnings.formatwarning = lambda message, *rest, **more: f"warning: {message}\n"  # our own, in one line
    for name in ("torch.fx", "torchrec", "torch.distributed", "fbgemm_gpu", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
