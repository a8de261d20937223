"""Two hosts on one machine: network namespaces, joined by a cable."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

ADDRESSES = ("10.213.7.1", "10.213.7.2")
CABLE = "cable"  # what both call their end of it
ENTER = """
import ctypes, os
host = os.open("/run/netns/" + {hosts!r}[int(os.environ["RANK"])], os.O_RDONLY)
if ctypes.CDLL(None, use_errno=True).setns(host, 0):
    raise OSError(ctypes.get_errno(), "setns")
os.environ.update(MASTER_ADDR={address!r}, GLOO_SOCKET_IFNAME={cable!r})
"""


@contextlib.contextmanager
def two_hosts() -> Iterator[str]:
    """Statements that make a rank a process of the host of its number; skips where none can be made."""
    if shutil.which("ip") is None:
        pytest.skip("two hosts are two network namespaces: install iproute2 (`ip`)")
    hosts = [f"host{os.getpid()}-{number}" for number in range(2)]
    try:
        for host in hosts:
            made = _ip("netns", "add", host)
            if made.returncode:
                pytest.skip(f"two hosts are two network namespaces, which only root may make: {made.stderr}")
        _lay_cable(hosts)
        yield ENTER.format(hosts=hosts, address=ADDRESSES[0], cable=CABLE)
    finally:
        for host in hosts:
            _ip("netns", "del", host)


def _lay_cable(hosts: list[str]) -> None:
    ends = [{"name": CABLE, "netns": host} for host in hosts]
    first, second = ([word for pair in end.items() for word in pair] for end in ends)
    _ip("link", "add", *first, "type", "veth", "peer", *second).check_returncode()
    for host, address in zip(hosts, ADDRESSES, strict=True):
        _ip("-n", host, "address", "add", f"{address}/24", "dev", CABLE).check_returncode()
        for interface in ("lo", CABLE):
            _ip("-n", host, "link", "set", interface, "up").check_returncode()


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
