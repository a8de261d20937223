"""What a placement file may say, and what is refused with the file, the field and the mend."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from files.errors import InputError
from harness.training.placement import Placement, read_placement
from harness.training.ranks import World
from suites.options import check_placement
from tests.harness.schemas import small_schema

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
PAGE = Path(__file__).resolve().parents[3] / "docs/many_processes.md"
FEATURES = small_schema().sparse_features


def placement_of(folder: Path, text: str) -> Placement:
    path = folder / "placement.yaml"
    path.write_text(text)
    return read_placement(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{gigabyte_per_gpu: 3}", "gigabyte_per_gpu: is not a known field; check its spelling"),
        ("{gigabytes_per_gpu: 0}", "gigabytes_per_gpu: Input should be greater than 0, not 0"),
        ("{host_gigabytes_per_gpu: -1}", "host_gigabytes_per_gpu: Input should be greater than 0, not -1"),
        ("{tables: {item: {kernel: fused}}}", "tables.item.kernel: is not a known field"),
        (
            "{tables: {item: {sharding_types: [column_wise]}}}",
            "tables.item.sharding_types.0: column_wise is refused, since columns apart .* choose table_wise",
        ),
        (
            "{default: {sharding_types: [grid_shard]}}",
            "default.sharding_types.0: grid_shard is refused, since",
        ),
        (
            "{default: {sharding_types: [row_wise, data_parallel]}}",
            "default.sharding_types.1: data_parallel is refused, since the optimizer's state",
        ),
        (
            "{default: {sharding_types: [rows]}}",
            "default.sharding_types.0: Input should be 'table_wise', .*'rows'",
        ),
        ("{default: {sharding_types: []}}", "default.sharding_types: List should have at least 1 item"),
        (
            "{default: {compute_kernels: [dense]}}",
            "default.compute_kernels.0: Input should be 'fused', .*'dense'",
        ),
        (
            "{default: {cache_load_factor: 1}}",
            "default.cache_load_factor: Input should be less than 1, not 1",
        ),
        (
            "{default: {compute_kernels: [fused_uvm], cache_load_factor: 0.5}}",
            "default.cache_load_factor: only fused_uvm_caching has a cache; add it to compute",
        ),
        (
            "{default: {compute_kernels: [fused]}, tables: {item: {cache_load_factor: 0.2}}}",
            "tables.item.cache_load_factor: only fused_uvm_caching has a cache; add it to compute",
        ),
        ("", "must be a mapping of fields to values, not nothing"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(text, said, tmp_path):
    with pytest.raises(InputError, match=rf"placement.yaml: {said}"):
        placement_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{tables: {items: {}}}", "tables.items: is no table; choose from genres, item, user"),
        (
            "{tables: {history: {}}}",
            "tables.history: is no table, but looks up item; choose from genres, item",
        ),
        ("{tables: {age: {}}}", "tables.age: is no table; choose from"),  # a number has none
    ],
)
def test_an_unknown_table_is_refused_with_those_that_there_are(text, said, tmp_path):
    with pytest.raises(InputError, match=rf"placement.yaml: {said}"):
        placement_of(tmp_path, text).check_tables(FEATURES)


def test_a_table_without_a_cache_leaves_out_the_default_ones_share():
    default = {"compute_kernels": ["fused_uvm_caching"], "cache_load_factor": 0.2}
    tables = {"item": {"compute_kernels": ["fused"]}}
    placement = Placement.model_validate({"default": default, "tables": tables})
    assert placement.of("item").cache_load_factor is None
    assert placement.of("user").cache_load_factor == 0.2


def test_the_tables_that_there_are_may_be_named():
    Placement.model_validate({"tables": {"user": {}, "item": {}, "genres": {}}}).check_tables(FEATURES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{gigabytes_per_gpu: 3}", "gigabytes_per_gpu: there are no GPUs on --device cpu; remove it"),
        ("{host_gigabytes_per_gpu: 3}", "host_gigabytes_per_gpu: there are no GPUs on"),
        (
            "{default: {sharding_types: [row_wise]}}",
            "default.sharding_types: on CPUs TorchRec has whole tables",
        ),
        ("{tables: {user: {sharding_types: [table_wise, row_wise]}}}", "tables.user.sharding_types: on CPUs"),
        ("{tables: {user: {compute_kernels: [fused_uvm]}}}", "tables.user.compute_kernels: on CPUs"),
        (
            "{tables: {user: {cache_load_factor: 0.1}}}",
            "tables.user.cache_load_factor: on CPUs .* or run on GPUs",
        ),
    ],
)
def test_what_only_gpus_have_is_refused_on_cpus(text, said, tmp_path):
    with pytest.raises(InputError, match=rf"placement.yaml: {said}"):
        check_placement(placement_of(tmp_path, text), World(0, 2, CPU))


def test_the_file_of_the_guide_is_one(tmp_path):
    [text] = re.findall(r"```yaml\n(gigabytes_per_gpu.*?)```", PAGE.read_text(), re.DOTALL)
    assert placement_of(tmp_path, text).of("item_id").compute_kernels == ["fused_uvm_caching"]


def test_a_share_of_a_gpu_is_at_most_all_of_it(tmp_path, monkeypatch):
    properties = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    check_placement(placement_of(tmp_path, "{gigabytes_per_gpu: 80}"), World(0, 2, GPU))
    with pytest.raises(
        InputError, match=r"gigabytes_per_gpu: 81 is more than the 80.0 GB of this GPU; lower it"
    ):
        check_placement(placement_of(tmp_path, "{gigabytes_per_gpu: 81}"), World(0, 2, GPU))


def test_one_process_is_told_that_a_placement_has_no_effect(tmp_path):
    check_placement(None, World(0, 1, CPU))
    with pytest.raises(
        InputError, match=r"--placement: one process holds every table; start several with torchrun"
    ):
        check_placement(placement_of(tmp_path, "{}"), World(0, 1, CPU))


def test_a_placement_reaches_another_process_with_its_path(tmp_path):
    placement = placement_of(tmp_path, "{tables: {user: {compute_kernels: [fused]}}}")
    again = pickle.loads(pickle.dumps(placement))
    assert (again.of("user"), again.where) == (placement.of("user"), f"{tmp_path}/placement.yaml: ")
