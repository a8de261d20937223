"""Batches one ahead: none is lost, doubled or out of order, and memory is not reused before it was read."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.batch import Batch
from datasets.reader import ShardReader
from harness.training.prefetch import on_device, one_ahead

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@given(st.integers(0, 9))
def test_every_item_comes_once_in_order_and_the_next_one_was_started_before(count):
    log = []
    for item in one_ahead(range(count), lambda item: log.append(("start", item)) or item):
        log.append(("use", item))
    starts = [item for what, item in log if what == "start"]
    assert starts == [item for what, item in log if what == "use"] == list(range(count))
    for item in range(count):
        assert log.index(("start", min(item + 1, count - 1))) < log.index(("use", item))
        if item + 2 < count:
            assert log.index(("use", item)) < log.index(("start", item + 2))


def test_what_the_source_raises_is_raised_and_nothing_is_handed_out_after_it():
    def source():
        yield from "abc"
        raise RuntimeError("the disk")

    got = []
    with pytest.raises(RuntimeError, match="the disk"):
        got += one_ahead(source(), got.append)
    items = one_ahead(source(), str.upper)
    with pytest.raises(RuntimeError, match="the disk"):
        list(items)
    assert list(items) == []


def reader_of(prepared, size=1000):
    return ShardReader(prepared, "train", size, ["finish", "skip"], shuffle_seed=0)


def columns(batch: Batch) -> list[torch.Tensor]:
    return [
        batch.sparse.values(), batch.sparse.lengths(), batch.sparse.offsets(),
        batch.dense, batch.labels, batch.user_id, batch.tier,
    ]  # fmt: skip


def same(left: Batch, right: Batch) -> bool:
    pairs = zip(columns(left), columns(right), strict=True)
    return all(torch.equal(a.cpu().nan_to_num(-1), b.cpu().nan_to_num(-1)) for a, b in pairs)


class Recorded:
    """A closable source that says what was taken of it."""

    def __init__(self, batches):
        self.left, self.taken, self.is_closed = list(batches), 0, False

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.taken += 1
        return self.left.pop(0)

    def close(self):
        self.is_closed = True


class Gpu:
    """torch.cuda as `on_device` uses it; each stream's memory is its own, and calls are written down."""

    def __init__(self, monkeypatch):
        self.log, gpu = [], self

        class Event:
            def record(self, stream):
                self.copied = stream
                gpu.log.append("copied")

        class Stream:
            def __init__(self, device):
                gpu.copying = self

        class Computing:
            def wait_event(self, event):
                assert event.copied is gpu.copying
                gpu.log.append("waited")

        @contextmanager
        def stream(chosen):
            before, gpu.current = gpu.current, chosen
            yield
            gpu.current = before

        self.current = self.computing = Computing()
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: gpu.current)
        monkeypatch.setattr(Batch, "pin_memory", lambda batch: self._pinned(batch))
        monkeypatch.setattr(Batch, "to", lambda batch, device: self._moved(batch, device))
        monkeypatch.setattr(Batch, "record_stream", lambda batch, stream: self._kept(stream))

    def _pinned(self, batch):
        self.log.append("pinned")
        return batch

    def _moved(self, batch, device):
        assert device == CUDA
        assert self.current is self.copying, "a copy on the computing stream waits for the step"
        assert self.log[-1] == "pinned", "a copy from pageable memory waits for the GPU"
        return batch

    def _kept(self, stream):
        assert stream is self.computing
        assert self.log[-1] == "waited"
        self.log.append("kept")


def test_a_gpus_batches_are_copied_pinned_beside_the_step_and_waited_for_before_use(prepared, monkeypatch):
    batches = list(reader_of(prepared).batches())
    gpu, source = Gpu(monkeypatch), Recorded(batches)
    got = []
    for batch in on_device(source, CUDA):
        got.append(batch)
        gpu.log.append("step")
    assert [any(batch is other for other in batches) for batch in got] == [True] * len(batches)
    assert all(a is b for a, b in zip(got, batches, strict=True))
    assert source.is_closed
    copying = ["pinned", "copied"]
    use = ["waited", "kept", "step"]
    assert gpu.log == copying * 2 + [*use, *copying] * (len(batches) - 2) + use * 2


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_an_early_close_closes_the_source_and_takes_no_more_of_it(device, prepared, monkeypatch):
    batches = list(reader_of(prepared).batches())
    if device == CUDA:
        Gpu(monkeypatch)
    source = Recorded(batches)
    ahead = on_device(source, device)
    next(ahead)
    ahead.close()
    assert source.is_closed
    assert source.taken == (1 if device == CPU else 2)
    assert list(ahead) == []


def test_on_the_cpu_batches_are_the_readers_and_nothing_runs_ahead(prepared):
    batches = list(reader_of(prepared).batches())
    source = Recorded(batches)
    for number, batch in enumerate(on_device(source, CPU), start=1):
        assert source.taken == number
        assert same(batch, batches[number - 1])
    assert source.taken == len(batches)


def test_a_batch_in_pinned_memory_is_the_same_batch(prepared, monkeypatch):
    """Pinning needs a GPU: here every tensor is copied instead, and none may be forgotten."""
    batch = next(reader_of(prepared).batches())
    pinned, kept = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self.clone())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: kept.append(self.data_ptr()))
    copy = batch.pin_memory()
    assert len(pinned) == len(columns(batch))
    assert same(copy, batch)
    assert copy.sparse.keys() == batch.sparse.keys()
    copy.record_stream(None)
    assert sorted(kept) == sorted(column.data_ptr() for column in columns(copy))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED: no GPU to copy to")
def test_copies_on_a_real_gpu_are_whole_while_it_computes(prepared):
    busy = torch.randn(2048, 2048, device=CUDA)
    expected = list(reader_of(prepared, 64).batches())
    sums = []
    for batch, original in zip(on_device(reader_of(prepared, 64).batches(), CUDA), expected, strict=True):
        for _ in range(20):
            busy = (busy @ busy).tanh()
        sums.append((batch.dense.double().sum(), original.dense.double().sum()))
        del batch  # its memory is free while the products above still run
    for got, want in sums:
        torch.testing.assert_close(got.cpu(), want)
