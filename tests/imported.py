"""What commands import, early or late: for the process that tests fork others from (tests/forked.py)."""

# ruff: noqa: E402, F401  quiet_libraries is called before PyTorch is imported

import gc

gc.disable()

import importlib

from harness.machine.quiet import quiet_libraries

quiet_libraries()

import optuna
import pandas
import pyarrow.compute
import pyarrow.pandas_compat

import reports.render
import suites.run
import suites.tuning.tune
from harness.model.architectures import ARCHITECTURES

for where in ARCHITECTURES.values():
    importlib.import_module(where.partition(":")[0])

gc.collect()
gc.enable()
gc.freeze()  # or the first collection of each process would copy the pages of all that is imported
