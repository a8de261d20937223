from __future__ import annotations

import platform
from types import SimpleNamespace

import psutil
import pytest

from files.errors import InputError
from harness.records.cost import Cost
from harness.training.memory import require_room
from tests.forked import ROOT, Forked

PAGES = 100 * 2**20 // 4096
FAULTS = """
import resource
import torch
from harness.training.memory import keep_freed_memory

if {keep}:
    keep_freed_memory()
for _ in range(20):  # the first few may not fit each other's gaps
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(100 * 2**20 // 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="SKIPPED: the C library is not glibc")
@pytest.mark.parametrize("keep", [True, False])
def test_a_tensor_finds_the_pages_of_one_that_was_freed_only_if_they_are_kept(keep):
    """In a process of its own, by the page faults that the system counts for the last tensor of 100 MB."""
    process = Forked(FAULTS.format(keep=keep), ROOT, THP_MEM_ALLOC_ENABLE="0")
    said, problem = process.communicate()
    assert process.returncode == 0, problem
    assert (int(said) < PAGES // 10) == keep


def test_what_does_not_fit_is_refused_and_what_just_fits_is_not(monkeypatch):
    cost = Cost(
        dense_params=10**9,
        sparse_params=6 * 10**9,
        flops_per_sample=1,
        active_flops_per_sample=1,
        train_flops_per_sample=3,
    )

    def machine_of(gigabytes: float) -> None:
        there = SimpleNamespace(total=int(gigabytes * 1e9))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: there)

    machine_of(40)
    require_room(cost, world_size=1)
    machine_of(39.9)
    with pytest.raises(InputError, match=r"takes 40 GB .* has 40 GB; lower the budget"):
        require_room(cost, world_size=1)
    require_room(cost, world_size=2)  # which share the tables
