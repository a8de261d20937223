"""How fast several models answer, measured in one interleaved pass.

A round visits every model, part and batch size: a large matrix product, then for each a call that is not
timed, since others have had the caches, and calls for a few hundredths of a second. A machine that is slower
for a moment is so for all of them, and the share of its peak is taken within the round. A measurement takes
part until its median is known well and the upper end of the interval of its p99 is known, or until time is
up; one whose median is not known well by then is marked as noisy.

The models share one set of embedding tables: look-ups cost the same whatever the tables hold. Dense parts
have the weights of their runs where these were kept, and their initial ones otherwise. FLOPs are those of the
cost, without the experts that the calls leave closed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from datasets.batch import Batch
from datasets.prepared import PreparedDataset
from harness.machine.peaks import DTYPES, Gemm, Peak, median_peak
from harness.machine.rounds import Timing, calls_in, error_of_median
from harness.machine.timing import Stopwatch
from harness.model.assembly import RankingModel
from harness.records.cost import Cost
from harness.records.serving import ServedModel, ServedPart
from harness.records.spec import RunSpec
from harness.runs.run import build_dense_side, build_model
from harness.speed.models import PARTS, inference_call, read_batches, with_open_experts
from harness.speed.operators import peak_memory
from harness.training.ranks import World
from harness.training.weights import WEIGHTS_FILE, read_weights

TURN_SECONDS = 0.03  # of one measurement in one round
FEWEST_ROUNDS = 5
SMALL_ERROR = 0.01  # of a median; with less the measurement is done
WIDEST_ERROR = 0.05  # with more it is marked as noisy


@dataclass
class Measurement:
    """One model, part and batch size: the call, and what it took so far."""

    spec: RunSpec
    part: ServedPart
    batch_size: int
    flops: int  # of a call
    call: Callable[[], object]
    memory_bytes: int
    trained: bool = False
    timing: Timing = field(default_factory=Timing)

    def is_settled(self) -> bool:
        """Whether more rounds would tell nothing new."""
        timing = self.timing
        if len(timing.seconds) < FEWEST_ROUNDS or timing.percentile_interval(0.99)[1] is None:
            return False
        return max(error_of_median(timing.seconds), error_of_median(self._shares())) <= SMALL_ERROR

    def take_turn(self, gemm_flops_per_second: float, device: torch.device) -> None:
        """Calls for `TURN_SECONDS`, at least one, after one that is not timed."""
        calls = 1  # of the first turn it is not known how long a call takes
        if self.timing.seconds:
            calls = calls_in(TURN_SECONDS, statistics.median(self.timing.seconds))
        self.timing.add_round(self.call, calls, gemm_flops_per_second, device)

    def as_record(self) -> ServedModel:
        timing = self.timing
        error, mfu_error = error_of_median(timing.seconds), error_of_median(self._shares())
        found: dict[str, Any] = {}
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            low, high = timing.percentile_interval(share)
            found[f"latency_ms_{name}"] = 1e3 * timing.quantile(share)
            found[f"latency_ms_{name}_low"] = None if low is None else 1e3 * low
            found[f"latency_ms_{name}_high"] = None if high is None else 1e3 * high
        named = ("architecture", "variant", "series", "size", "ratio")
        return ServedModel(
            **{name: getattr(self.spec, name) for name in named},
            spec_hash=self.spec.hash,
            part=self.part,
            batch_size=self.batch_size,
            **found,
            samples_per_second=self.batch_size / timing.median,
            mfu=statistics.median(self._shares()),
            error=error,
            mfu_error=mfu_error,
            noisy=max(error, mfu_error) > WIDEST_ERROR,
            calls=len(timing.latencies),
            rounds=len(timing.seconds),
            trained=self.trained,
            memory_bytes=self.memory_bytes,
        )

    def _shares(self) -> list[float]:
        return self.timing.peak_shares(self.flops)


@dataclass(frozen=True)
class Served:
    """What a pass found: every model, and the peak that they were held against."""

    models: list[ServedModel]
    peak: Peak
    seconds: float


class ToServe(NamedTuple):
    """A model to be timed; ``folder`` is its run's, whose weights are taken where they were kept."""

    spec: RunSpec
    cost: Cost
    folder: Path | None = None


def measure_serving(
    models: Sequence[ToServe],
    prepared: PreparedDataset,
    batch_sizes: Sequence[int],
    threads: int,
    limit_seconds: float,
    device: torch.device,
) -> Served:
    """Time every model's inference at every batch size, dense part and whole, in turns.

    ``limit_seconds`` end the pass after the round in which they are over, but not before `FEWEST_ROUNDS`.

    Raises InputError where the training split has less than a batch.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        watch = Stopwatch(device)
        precision = models[0].spec.training.precision
        gemm = Gemm.between(device, precision)
        by_model = _measurements(models, prepared, batch_sizes, device)
        peaks = _take_turns(by_model, gemm, watch, limit_seconds)
        return Served(
            models=[measurement.as_record() for each in by_model for measurement in each],
            peak=median_peak(peaks, gemm),
            seconds=watch.seconds(),
        )
    finally:
        torch.set_num_threads(before)


def _take_turns(
    by_model: list[list[Measurement]], gemm: Gemm, watch: Stopwatch, limit_seconds: float
) -> list[float]:
    """Rounds until all is settled or time is up; the FLOP/s of every matrix product."""
    peaks: list[float] = []
    rounds = 0
    while rounds < FEWEST_ROUNDS or watch.seconds() < limit_seconds:
        left = [[m for m in each if not m.is_settled()] for each in by_model]
        if not any(left):
            break
        for measurements in filter(None, left):
            peaks.append(gemm.flops_per_second())
            for measurement in measurements:
                measurement.take_turn(peaks[-1], gemm.device)
        rounds += 1
    return peaks


def _measurements(
    models: Sequence[ToServe],
    prepared: PreparedDataset,
    batch_sizes: Sequence[int],
    device: torch.device,
) -> list[list[Measurement]]:
    """Those of each model, on one set of embedding tables."""
    first = models[0].spec
    batches = {size: read_batches(first, prepared, size, device) for size in batch_sizes}
    shared: Any = build_model(first, prepared, World(0, 1, device))
    found = []
    for spec, cost, folder in models:
        model = RankingModel(shared.embeddings, build_dense_side(spec, prepared, device))
        trained = folder is not None and _take_weights(model, folder, spec)
        found.append(_of_model(model, spec, cost, batches, trained))
    return found


def _take_weights(model: RankingModel, folder: Path, spec: RunSpec) -> bool:
    """Load the dense weights that the run kept; False where it kept none."""
    if not (folder / WEIGHTS_FILE).is_file():
        return False
    weights, prefix = read_weights(folder, spec.hash), "dense."
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    model.dense.load_state_dict(own)
    return True


def _of_model(
    model: RankingModel, spec: RunSpec, cost: Cost, batches: dict[int, list[Batch]], trained: bool
) -> list[Measurement]:
    found = []
    for size, read in batches.items():
        calls = {part: inference_call(model, DTYPES[spec.training.precision], read, part) for part in PARTS}
        call, held = calls["dense"]
        memory = peak_memory(call, held.dense, None, read[0].dense.device)
        for part, (call, _) in calls.items():
            flops = size * with_open_experts(cost, call, len(read)).active_flops_per_sample
            found.append(Measurement(spec, part, size, flops, call, memory, trained))
    return found
