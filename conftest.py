"""What holds for all tests.

Triton's kernels are tested in its interpreter, also on a GPU, unless TRITON_INTERPRET is 0. It is
chosen when a kernel is defined, so it is set before anything imports one. No example of hypothesis has
a time limit of its own: on a busy machine the usual 200 ms are over while the process waits.

Garbage is not looked for while modules are imported, which takes a fifth of the imports' time, nor later
among what they hold.
"""

import gc
import os
import sys
from importlib.util import find_spec

import pytest
from hypothesis import settings

gc.disable()  # until all tests are collected
os.environ.setdefault("TRITON_INTERPRET", "1")
collect_ignore = (
    [] if find_spec("triton") else ["rankmixer/kernels/triton_kernels.py", "rankmixer/kernels/fused_gemm.py"]
)
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of whole commands come first: they take longest, and none is then left to the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("tests", "suites", "tuning", "training"))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def own_path():
    """No test finds a module in a folder that an earlier one put on ``sys.path``.

    The test's own ``monkeypatch`` would undo ``syspath_prepend`` last, in the list that all tests share.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path.copy())
        yield
