"""``serving_profile.json``: requests a second that a model answers within a bound, and its rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from files.writing import write_atomically
from harness.records.record import Number, Part, read_json
from harness.records.serving import MeasuredRow

SERVING_PROFILE_FILE = "serving_profile.json"
MEND = "measure again with `run_bench.py profile serving`"
FORMAT = 1
WIDEST_SPREAD = 0.05  # of rounds, and of the compute under load; with more a row is marked as noisy


class LoadPoint(Part):
    """One offered load of the server scenario; all times are milliseconds.

    A latency goes from a request's scheduled arrival to its answer, and is queue and compute together.
    ``sent_late`` is by how much the process that sends requests was late, which is part of the queue.
    """

    offered_qps: float
    requests: int
    latency_ms_p50: float
    latency_ms_p99: float
    latency_ms_p99_low: Number = None
    latency_ms_p99_high: Number = None
    queue_ms_p50: float
    queue_ms_p99: float
    compute_ms_p50: float
    compute_ms_p99: float
    sent_late_ms_p99: float


class ProfiledEngine(MeasuredRow):
    """One model in one engine, with one number of candidates a request.

    ``refused`` says why nothing was measured. ``score_difference`` is the largest to the eager model in fp32.
    ``qps`` is the highest load that was offered whose p99 holds the bound, 0 where none does and None where
    none could be offered; it is known to lie between ``qps_low`` and ``qps_high``. ``alone`` are requests
    one after another, the offline scenario; ``spread`` is the distance between the quartiles of its rounds
    over their median.
    """

    engine: str
    candidates: int
    auc: dict[str, Number] = Field(default_factory=dict)
    refused: str = ""
    score_difference: Number = None
    alone_ms_p50: Number = None
    alone_ms_p99: Number = None
    candidates_per_second: Number = None
    spread: Number = None
    qps: Number = None
    qps_low: Number = None
    qps_high: Number = None
    loads: list[LoadPoint] = Field(default_factory=list)

    @property
    def noisy(self) -> bool:
        """Whether the machine was faster at one moment than at another: other work may have kept it."""
        if self.spread is None or self.alone_ms_p50 is None:
            return False
        apart = [abs(load.compute_ms_p50 / self.alone_ms_p50 - 1) for load in self.loads]
        return max([self.spread, *apart]) > WIDEST_SPREAD

    @property
    def at_bound(self) -> LoadPoint | None:
        """The load at the bound; None where none holds it."""
        return next((load for load in self.loads if self.qps and load.offered_qps == self.qps), None)

    def price_per_million(self, price_per_hour: float) -> float | None:
        """What a million candidates cost at the bound, where an hour of this machine costs so much."""
        if not self.qps:
            return None
        return price_per_hour / (self.qps * self.candidates * 3600) * 1e6


class ServingProfile(Part):
    """The models of a suite on one dataset.

    ``bound_ms`` is that of the p99, ``seconds`` how long each load was offered. ``user_features`` are the
    same for all candidates of a request. ``results`` is the folder whose runs the AUC is of.
    """

    format: int = FORMAT
    suite: str
    description: str = ""
    dataset: str
    command: str = ""
    measured_at: str
    bound_ms: float
    seconds: float
    threads: int
    precision: str
    device: str
    cuda_graphs: bool
    user_features: list[str]
    price_per_hour: Number = None
    results: str = ""
    environment: dict[str, Any]
    models: list[ProfiledEngine] = Field(default_factory=list)


def read_serving_profile(out: Path) -> ServingProfile:
    """``out/serving_profile.json``; InputError naming the file and the mend if it is not there or damaged."""
    return read_json(out / SERVING_PROFILE_FILE, ServingProfile, "profile of serving", MEND)


def write_serving_profile(out: Path, profile: ServingProfile) -> None:
    """Write ``out/serving_profile.json``, whole or not at all."""
    text = json.dumps(profile.model_dump(mode="json"), indent=1)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / SERVING_PROFILE_FILE, text.encode())
