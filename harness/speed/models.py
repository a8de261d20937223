"""How fast one model is: latency, samples a second, MFU, bytes, memory, and where the time goes.

Two parts, each for inference and for a training step:

- ``dense``: what is cost-matched. Looked-up embeddings lie on the device; tokens, architecture and towers
  run. A training step is forward, loss, backward (down to what was looked up) and the dense optimizer.
- ``whole``: look-ups before it, and in training the tables' own update; batches of the training split, read
  beforehand.

Inference holds weights in the precision asked for; in fp8 RankMixer's per-token networks alone
(`rankmixer.kernels.fp8`), and bf16 is all else. How far its probabilities lie from fp32's is measured on the
first batch, with the weights as they are before training. A training step holds weights in fp32 and computes
by autocast, as training does; there is none in fp8.

FLOPs are the cost's: forward without the experts that the timed calls leave closed, training three times the
forward pass that it computes. An untrained ReLU opens another share of the experts than it is meant to.
MFU is against a matrix product of the same moment (`harness.machine.rounds`), and against the datasheet of a
known GPU. What varies too much to be a measurement is left out, and the record says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets.batch import Batch
from datasets.prepared import PreparedDataset
from datasets.reader import ShardReader
from files.errors import InputError
from harness.machine.peaks import DTYPES, Gemm, datasheet_peak, measured_bandwidth
from harness.machine.rounds import ROUND_SECONDS, ROUNDS, Timing, relative_spread, time_rounds
from harness.model.assembly import DenseSide, Prediction, RankingModel
from harness.model.embeddings import LookedUp
from harness.records.cost import Cost
from harness.records.spec import RunSpec
from harness.runs.run import build_model, inputs_of
from harness.speed.cuda_graphs import captured
from harness.speed.operators import operators, peak_memory
from harness.speed.roofline import ADAM_BYTES, count_operators, distinct_bytes, unfused_seconds
from harness.training.ranks import World
from harness.training.step import (
    Optimizers,
    dense_optimizer,
    optimizers_of,
    prediction_loss,
    train_step,
)
from rankmixer.kernels.fp8 import use_fp8

Part = Literal["dense", "whole"]
Mode = Literal["inference", "train"]
PARTS: tuple[Part, ...] = ("dense", "whole")
MODES: tuple[Mode, ...] = ("inference", "train")
BATCHES = 8  # different ones, in turn
WIDEST_SPREAD = 0.25


@dataclass(frozen=True)
class Machine:
    """What speeds are held against: a matrix product of the precision that is measured, timed with every
    round, and a bandwidth in bytes/s."""

    gemm: Gemm
    bandwidth: float

    @classmethod
    def of(cls, device: torch.device, precision: str) -> Machine:
        return cls(Gemm(device, precision), measured_bandwidth(device))


def profile_model(
    spec: RunSpec,
    cost: Cost,
    prepared: PreparedDataset,
    machine: Machine,
    batch_size: int,
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    widest_spread: float = WIDEST_SPREAD,
    cuda_graphs: bool = False,
) -> list[dict[str, Any]]:
    """A record for each part and mode: the columns of ``profile.csv`` and its ``operators``.

    ``spec.training`` gives optimizers, compilation, and the precision of what is not fp8. With
    ``cuda_graphs`` the dense part's inference is timed as replays of a graph; operators and memory are those
    of the call that it captured.

    Raises InputError where the training split has less than a batch, or a call cannot be captured.
    """
    device, precision = machine.gemm.device, machine.gemm.precision
    is_fp8 = precision == "fp8"
    batches = read_batches(spec, prepared, batch_size, device)
    records = []
    for mode in MODES[:1] if is_fp8 else MODES:
        for part in PARTS:
            predicts = (part, mode) == ("dense", "inference")
            model = build_model(spec, prepared, World(0, 1, device))
            exact = _probabilities(model.eval()(batches[0])) if predicts and precision != "fp32" else None
            call, held = _call(model, spec, batches, part, mode)
            if is_fp8:
                use_fp8(held.dense)
            graphed = cuda_graphs and predicts
            timed = captured(call, spec.architecture) if graphed else call
            timing = time_rounds(timed, machine.gemm, rounds, round_seconds)
            flops = batch_size * (
                with_open_experts(cost, call, len(batches)).active_flops_per_sample
                if mode == "inference"
                else cost.train_flops_per_sample
            )
            record = {
                **_identity(spec, batch_size, part, mode, machine.gemm),
                "cuda_graphs": graphed,
                **speeds(timing, flops, batch_size, widest_spread, datasheet(device, precision)),
            }
            if part == "dense":
                record |= _floors(spec, prepared, held, mode, flops, machine)
                record |= {"peak_memory_bytes": peak_memory(call, held.dense, held.optimizer, device)}
            if exact is not None:
                record |= _errors(_probabilities(call()), exact)
            record["operators"] = operators(call, device)
            records.append(record)
    return records


def read_batches(
    spec: RunSpec, prepared: PreparedDataset, batch_size: int, device: torch.device
) -> list[Batch]:
    """The first whole batches of the training split, at most `BATCHES`, on the device."""
    reader = ShardReader(prepared, "train", batch_size, spec.tasks, shuffle_seed=0)
    whole = reader.num_rows // batch_size
    if not whole:
        raise InputError(
            f"--batch-size {batch_size}: the training split of {spec.dataset!r} has {reader.num_rows} rows; "
            "give a smaller batch or a larger dataset"
        )
    return [batch.to(device) for batch in islice(reader.batches(), min(BATCHES, whole))]


# ------------------------------------------------------------------------------------- what is timed


class DenseOnly(nn.Module):
    """A ranking model whose look-ups have been made: what `train_step` steps in part ``dense``."""

    def __init__(self, model: RankingModel, looked_up: LookedUp) -> None:
        super().__init__()
        self.dense = model.dense
        self.looked_up = looked_up

    def forward(self, batch: Batch) -> Prediction:
        return self.dense(self.looked_up, batch.dense)


class Held(NamedTuple):
    """What a call of part ``dense`` has in memory before it."""

    dense: nn.Module
    optimizer: Optimizer | None
    batch: Batch
    looked_up: LookedUp


def _call(
    model: nn.Module, spec: RunSpec, batches: list[Batch], part: Part, mode: Mode
) -> tuple[Callable[[], object], Held]:
    """The function that is timed: one batch through one part, in one mode; and what it holds."""
    ranking: Any = model
    if mode == "inference":
        return inference_call(ranking, DTYPES[spec.training.precision], batches, part)
    with torch.no_grad():
        looked_up = ranking.embeddings(batches[0].sparse)
    ranking.train()
    if part == "dense":
        batches = batches[:1]
        ranking = DenseOnly(ranking, _leaves(looked_up))
    held = Held(ranking.dense, dense_optimizer(ranking, spec.training), batches[0], looked_up)
    return _training(ranking, spec, batches, held, part), held


def inference_call(
    model: RankingModel, dtype: torch.dtype, batches: list[Batch], part: Part
) -> tuple[Callable[[], object], Held]:
    """A function that predicts for one batch, and what it holds; the dense part computes in ``dtype``.

    Part ``dense`` starts from the first batch's look-ups, ``whole`` looks up each of ``batches`` in turn.
    """
    with torch.no_grad():
        looked_up = model.embeddings(batches[0].sparse)
    model.eval().dense.to(dtype)
    held = Held(model.dense, None, batches[0], _cast(looked_up, dtype))
    return _inference(model, batches, part, held), held


def with_open_experts(cost: Cost, call: Callable[[], Any], num_batches: int) -> Cost:
    """The cost at the share of experts that ``call``, one of inference, opens; each batch is called once."""
    share = share_of_open_experts(call, num_batches) if cost.expert_flops_per_sample else None
    return cost if share is None else cost.at_active_ratio(share)


def share_of_open_experts(call: Callable[[], Any], num_batches: int) -> float | None:
    """The mean over so many calls of a sparse model's inference; None where the model does not tell."""
    told = [call().statistics.get("active_experts") for _ in range(num_batches)]
    shares = [float(active.mean()) for active in told if active is not None]
    return statistics.fmean(shares) if shares else None


def _training(
    model: nn.Module, spec: RunSpec, batches: list[Batch], held: Held, part: Part
) -> Callable[[], object]:
    assert held.optimizer is not None
    training, optimizer = spec.training, Optimizers(held.optimizer)
    if part == "dense":
        training = training.model_copy(update={"table_l2": 0.0})  # there are no tables
    elif training.updates_whole_tables:
        optimizer = optimizers_of(model, training)
    world, turn = World(0, 1, batches[0].dense.device), cycle(batches)
    return lambda: train_step(model, next(turn), optimizer, training, world)


def _inference(model: RankingModel, batches: list[Batch], part: Part, held: Held) -> Callable[[], object]:
    dtype = next(held.dense.parameters()).dtype
    numbers, turn = held.batch.dense.to(dtype), cycle(batches)

    @torch.no_grad()
    def look_up_and_predict() -> object:
        batch = next(turn)
        return model.dense(_cast(model.embeddings(batch.sparse), dtype), batch.dense.to(dtype))

    @torch.no_grad()
    def predict() -> object:
        return model.dense(held.looked_up, numbers)

    return predict if part == "dense" else look_up_and_predict


@torch.no_grad()
def _probabilities(prediction: Any) -> Tensor:
    return torch.sigmoid(prediction.logits.float())


def _cast(looked_up: LookedUp, dtype: torch.dtype) -> LookedUp:
    return LookedUp(
        {name: pooled.to(dtype) for name, pooled in looked_up.pooled.items()},
        {name: (padded.to(dtype), lengths) for name, (padded, lengths) in looked_up.sequences.items()},
    )


def _leaves(looked_up: LookedUp) -> LookedUp:
    """The same values, where gradients end."""
    return LookedUp(
        {name: pooled.detach().requires_grad_() for name, pooled in looked_up.pooled.items()},
        {
            name: (padded.detach().requires_grad_(), lengths)
            for name, (padded, lengths) in looked_up.sequences.items()
        },
    )


# ---------------------------------------------------------------------------------------- the records


def _identity(spec: RunSpec, batch_size: int, part: Part, mode: Mode, gemm: Gemm) -> dict[str, Any]:
    return {
        "suite": spec.suite,
        "architecture": spec.architecture,
        "variant": spec.variant,
        "dataset": spec.dataset,
        "part": part,
        "mode": mode,
        "batch_size": batch_size,
        "precision": gemm.precision,
        "compiled": spec.training.compile,
        "device": gemm.device.type,
    }


def speeds(
    timing: Timing, flops: int, batch_size: int, widest_spread: float, datasheet_flops: float | None
) -> dict[str, Any]:
    """Latency, rates and MFU; None for what varied more than ``widest_spread`` between rounds.

    ``spread`` is that of the seconds a call, ``mfu_spread`` that of the share of the peak: the distance
    between the quartiles over the median.
    """
    shares = timing.peak_shares(flops)
    mfu_spread = relative_spread(shares)
    steady = timing.spread <= widest_spread
    p50, p99 = (timing.percentile(share) for share in (0.5, 0.99))
    return {
        "flops": flops,
        "calls": len(timing.latencies),
        "rounds": len(timing.seconds),
        "latency_ms_p50": 1e3 * p50 if steady and p50 is not None else None,
        "latency_ms_p99": 1e3 * p99 if steady and p99 is not None else None,
        "samples_per_second": batch_size / timing.median if steady else None,
        "flops_per_second": flops / timing.median if steady else None,
        "mfu": statistics.median(shares) if mfu_spread <= widest_spread else None,
        "mfu_datasheet": flops / timing.median / datasheet_flops if steady and datasheet_flops else None,
        "peak_flops": max(timing.gemm_flops_per_second),
        "spread": timing.spread,
        "mfu_spread": mfu_spread,
        "seconds_rounds": timing.seconds,
        "mfu_rounds": shares,
    }


def _errors(probabilities: Tensor, exact: Tensor) -> dict[str, float]:
    """How far probabilities lie from fp32's, over rows and tasks."""
    distances = (probabilities - exact).abs()
    return {
        "probability_error_max": float(distances.max()),
        "probability_error_mean": float(distances.mean()),
    }


def datasheet(device: torch.device, precision: str) -> float | None:
    """The datasheet's FLOP/s of the precision, where the device is known."""
    found = datasheet_peak(device, precision)
    return found.flops_per_second if found else None


def _floors(
    spec: RunSpec, prepared: PreparedDataset, held: Held, mode: Mode, flops: int, machine: Machine
) -> dict[str, Any]:
    """Bytes, and what they and the FLOPs allow at best, counted on a copy without memory."""
    dtype = DTYPES[spec.training.precision]
    with torch.device("meta"):
        dense = DenseSide(prepared.schema, inputs_of(spec), spec.architecture, spec.config, len(spec.tasks))
    dense.to(dtype).train(mode == "train")
    if machine.gemm.precision == "fp8":
        use_fp8(dense)
    looked_up, numbers = _on_meta(held.looked_up, dtype), held.batch.dense.to("meta", dtype)
    labels = held.batch.labels.to("meta")
    peak = statistics.median(machine.gemm.flops_per_second() for _ in range(3))

    def infer() -> object:
        with torch.no_grad():
            return dense(looked_up, numbers)

    def train() -> None:
        prediction = dense(_leaves(looked_up), numbers)
        prediction_loss(prediction, labels, labels.new_ones(labels.shape[1])).backward()

    counted = count_operators(infer if mode == "inference" else train)
    weights = [*dense.parameters(), *dense.buffers()]  # in fp8 weights are buffers
    moved = sum(map(distinct_bytes, [*weights, *looked_up.pooled.values(), numbers]))
    moved += sum(distinct_bytes(padded) for padded, _ in looked_up.sequences.values())
    optimizer = ADAM_BYTES * sum(p.numel() for p in dense.parameters()) if mode == "train" else 0
    least = 2 * moved + optimizer if mode == "train" else moved
    operator_bytes = sum(op.bytes for op in counted) + optimizer
    unfused = unfused_seconds(counted, peak, machine.bandwidth) + optimizer / machine.bandwidth
    return {
        "least_bytes": least,
        "operator_bytes": operator_bytes,
        "intensity": flops / operator_bytes,
        "bandwidth": machine.bandwidth,
        "floor_ms": 1e3 * max(flops / peak, least / machine.bandwidth),
        "unfused_ms": 1e3 * unfused,
    }


def _on_meta(looked_up: LookedUp, dtype: torch.dtype) -> LookedUp:
    return LookedUp(
        {name: pooled.to("meta", dtype) for name, pooled in looked_up.pooled.items()},
        {
            name: (padded.to("meta", dtype), lengths.to("meta"))
            for name, (padded, lengths) in looked_up.sequences.items()
        },
    )
