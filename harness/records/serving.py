"""``OUT/serving.json``: how fast a suite's models answer, measured after its trainings.

One pass a dataset, in which all of its models take turns, so that what else the machine did fell on all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from files.writing import write_atomically
from harness.records.contestant import Contestant, Ratio
from harness.records.record import Count, Number, Part, Record, read_json

SERVING_FILE = "serving.json"
MEND = "delete the file and run the suite again, which measures anew and repeats no training"

ServedPart = Literal["dense", "whole"]


class MeasuredRow(Part):
    """The row of a suite that speeds are of, and the hash of one of its specs."""

    architecture: str
    variant: str = ""
    series: str = ""
    size: str = ""
    ratio: Ratio | None = None
    spec_hash: str

    @property
    def contestant(self) -> Contestant:
        return Contestant(self.architecture, self.variant, self.series, self.size, self.ratio)


class ServedModel(MeasuredRow):
    """One model, one part of it, and one batch size. Times are milliseconds of one call on one batch.

    ``part`` is ``dense``, all that comes after the look-ups, or ``whole``. The ends of the 95% interval of a
    quantile are None where the calls were too few to tell. ``mfu`` is the median over rounds of the model's
    FLOP/s over those of a matrix product of the same moment, ``error`` the standard error of the median over
    rounds of a call's time, and ``mfu_error`` that of the MFU, both as fractions. ``noisy`` says that either
    is too large for the figures to be compared. ``trained``: the calls were made with the weights of the run
    ``spec_hash``, on which it depends how many experts are open. ``memory_bytes`` is the most that the dense
    part held during a call: weights, inputs and activations.
    """

    part: ServedPart
    batch_size: int
    latency_ms_p50: float
    latency_ms_p50_low: Number = None
    latency_ms_p50_high: Number = None
    latency_ms_p99: float
    latency_ms_p99_low: Number = None
    latency_ms_p99_high: Number = None
    samples_per_second: float
    mfu: float
    error: float
    mfu_error: float
    noisy: bool
    calls: int
    rounds: int
    trained: bool = False
    memory_bytes: Count = None


class ServingPass(Part):
    """The models of one dataset of a suite. ``seconds``: how long the pass took."""

    suite: str
    dataset: str
    batch_sizes: list[int]
    threads: int
    precision: str
    device: str
    peak_flops: float
    peak_source: str
    seconds: float
    environment: dict[str, Any] = Field(default_factory=dict)
    models: list[ServedModel] = Field(default_factory=list)

    def of(self, contestant: Contestant, part: ServedPart, batch_size: int) -> ServedModel | None:
        """What was measured of a model; None where it was not."""
        for model in self.models:
            if (model.contestant, model.part, model.batch_size) == (contestant, part, batch_size):
                return model
        return None

    def of_runs(self, runs: Iterable[Record]) -> ServingPass | None:
        """Its models that are those of ``runs``; None where none is.

        A model that has been trained in another way since may have another size.
        """
        hashes = {run.spec_hash for run in runs}
        models = [model for model in self.models if model.spec_hash in hashes]
        return self.model_copy(update={"models": models}) if models else None


class Serving(Part):
    """The passes of a folder."""

    passes: list[ServingPass] = Field(default_factory=list)

    def on(self, suite: str, dataset: str) -> ServingPass | None:
        """The pass of a suite on a dataset; None where there is none. What counts of it: `of_runs`."""
        return next((each for each in self.passes if (each.suite, each.dataset) == (suite, dataset)), None)

    def replaced_by(self, new: ServingPass) -> Serving:
        """These passes, with one in place of what its suite had on its dataset."""
        others = [each for each in self.passes if (each.suite, each.dataset) != (new.suite, new.dataset)]
        return Serving(passes=[*others, new])


def read_serving(out: Path) -> Serving:
    """``out/serving.json``; no passes where there is none. InputError if it is damaged."""
    path = out / SERVING_FILE
    return read_json(path, Serving, "record of speeds", MEND) if path.is_file() else Serving()


def write_serving(out: Path, serving: Serving) -> None:
    """Write ``out/serving.json``, whole or not at all."""
    text = json.dumps(serving.model_dump(mode="json"), indent=1)
    write_atomically(out / SERVING_FILE, text.encode())
