"""What a record says of its machine is so at that moment."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import torch

from harness.machine.environment import environment


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_the_threads_are_those_that_there_are_now():
    for threads in (1, 3, 2):
        torch.set_num_threads(threads)
        assert environment()["threads"] == threads


def test_what_does_not_change_is_found_once_and_handed_out_as_a_copy():
    environment()["torch"] = "altered"
    assert environment()["torch"] == version("torch")
