from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from files import memory

GIB = 2**30
VERSION_2 = {"memory.max": "{most}", "memory.current": "{taken}", "memory.stat": "anon 1\n{cached}"}
VERSION_2_STAT = "active_file 1073741824\ninactive_file 1073741824\nfile 9999999999\n"
VERSION_1 = {
    "memory.limit_in_bytes": "{most}",
    "memory.usage_in_bytes": "{taken}",
    "memory.stat": "active_file 1\n{cached}",
}
VERSION_1_STAT = "total_active_file 1073741824\ntotal_inactive_file 1073741824\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sets what the machine has free, the process's groups, and what the files of each group say."""

    def set_up(own: str, version: dict[str, str], stat: str, groups: dict[str, tuple[object, int]]) -> None:
        there = SimpleNamespace(available=20 * GIB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: there)
        monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
        monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
        (tmp_path / "own").write_text(own)
        for path, (most, taken) in groups.items():
            folder = tmp_path / "groups" / path
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in version.items():
                content = text.format(most=most, taken=taken * GIB, cached=stat)
                (folder / name).write_text(content)

    return set_up


@pytest.mark.parametrize(
    ("own", "version", "stat", "groups", "free"),
    [
        ("0::/\n", {}, "", {}, 20),
        ("0::/job/step\n", VERSION_2, VERSION_2_STAT, {"job/step": ("max", 1), "job": (16 * GIB, 9)}, 9),
        ("0::/job/step\n", VERSION_2, VERSION_2_STAT, {"job/step": (8 * GIB, 5), "job": (16 * GIB, 9)}, 5),
        ("0::/elsewhere\n", VERSION_2, VERSION_2_STAT, {"": (8 * GIB, 5)}, 5),  # seen from in a container
        ("0::/job\n", VERSION_2, VERSION_2_STAT, {"job": (99 * GIB, 9)}, 20),
        ("1:cpu:/x\n4:memory:/job\n", VERSION_1, VERSION_1_STAT, {"memory/job": (4 * GIB, 3)}, 3),
        (
            "4:memory:/job\n",
            VERSION_1,
            VERSION_1_STAT,
            {"memory/job": (2**63 - 4096, 3), "memory": (6 * GIB, 3)},
            5,
        ),
    ],
)
def test_free_is_what_the_machine_has_and_every_group_leaves(machine, own, version, stat, groups, free):
    """Files that are cached count as free: two GiB in each group."""
    machine(own, version, stat, groups)
    assert memory.free_memory() == free * GIB


def test_a_system_without_groups_has_what_is_available(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "none")
    there = SimpleNamespace(available=7)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: there)
    assert memory.free_memory() == 7
