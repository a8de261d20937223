"""Triton's kernels are tested in its interpreter, also where there is a GPU unless TRITON_INTERPRET is 0.

The interpreter is chosen when a kernel is defined, so it is set before anything imports one.
"""

import os
from importlib.util import find_spec

os.environ.setdefault("TRITON_INTERPRET", "1")
collect_ignore = [] if find_spec("triton") else ["rankmixer/kernels.py", "rankmixer/fused_gemm.py"]
