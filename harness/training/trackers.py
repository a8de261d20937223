"""Watching runs elsewhere than on the terminal: TensorBoard and MLflow, both optional packages.

Both get the same points: ``train/loss`` and ``train/samples_per_second`` of every stretch of steps,
``valid/<task>/<metric>`` of every validation, and at the end ``test/<task>/<metric>``, costs and speed.
Their step is the number of samples trained on, so that curves of different batch sizes lie side by side.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from files.errors import InputError
from harness.records.record import Record
from harness.records.spec import RunSpec
from harness.training.progress import Silent, Watcher

METRICS = ("auc", "uauc", "gauc", "logloss", "normalized_entropy", "calibration")
COSTS = ("dense_params", "sparse_params", "flops_per_sample", "active_flops_per_sample")
SPEEDS = ("train_samples_per_second", "eval_samples_per_second", "mfu_train", "runs_at_once")
SECONDS_BETWEEN_BATCHES = 5.0  # what is sent to MLflow waits for company
MOST_IN_A_BATCH = 1000  # MLflow takes no more metrics at once


def watchers(names: Sequence[str], out: Path) -> list[Watcher]:
    """``tensorboard`` and ``mlflow`` by name, once each, in the order given; they write under ``out``.

    Raises InputError where a package is missing or MLflow's store cannot be opened.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--watch {name}: the package {name} is not installed; "
                "install it with pip install -c requirements/lock.txt -e '.[watch]'"
            )
    made: dict[str, Callable[[Path], Watcher]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
    return [made[name](out) for name in names]


class Several:
    """Tells each of several watchers, in their order."""

    def __init__(self, members: list[Watcher]) -> None:
        self._members = members

    def beside_others(self) -> Several:
        return Several([member.beside_others() for member in self._members])

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None:
        for member in self._members:
            member.start(spec, samples, total_samples)

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None:
        for member in self._members:
            member.advance(samples, loss, samples_per_second)

    def validated(self, samples: int, metrics: dict[str, dict]) -> None:
        for member in self._members:
            member.validated(samples, metrics)

    def finish(self) -> None:
        for member in self._members:
            member.finish()

    def ended(self, record: Record) -> None:
        for member in self._members:
            member.ended(record)

    def note(self, text: str) -> None:
        for member in self._members:
            member.note(text)


class TensorBoard(Silent):
    """Event files in ``out/tensorboard/<run's folder>``, flushed at every point."""

    def __init__(self, out: Path) -> None:
        self._folder = out / "tensorboard"
        self._writer: Any = None

    def beside_others(self) -> TensorBoard:
        return copy.copy(self)

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a killed run wrote after its last checkpoint is trained, and so written, once more.
        self._writer = SummaryWriter(str(self._folder / spec.folder_name), purge_step=samples + 1)

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None:
        self._write(samples, {"train/loss": loss, "train/samples_per_second": samples_per_second})

    def validated(self, samples: int, metrics: dict[str, dict]) -> None:
        self._write(samples, flat_metrics("valid", metrics))

    def finish(self) -> None:
        self._writer.flush()

    def ended(self, record: Record) -> None:
        if record.failure is not None:
            self._writer.add_text("failure", record.failure.reason, record.failure.step)
        self._write(samples_of(record), at_the_end(record))
        self._writer.close()

    def _write(self, samples: int, points: dict[str, float]) -> None:
        for name, value in points.items():
            self._writer.add_scalar(name, value, samples)
        self._writer.flush()


class MLflow(Silent):
    """Runs of an experiment named as the suite, in ``MLFLOW_TRACKING_URI`` or else ``out/mlflow.db``.

    A run that was broken off stays RUNNING, and the command that goes on with it adds to it what is
    not there yet. Points are sent a few seconds' worth at a time. Where the store fails in the middle of
    a run, the run goes on, and nothing more is sent.
    """

    def __init__(self, out: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own 7 take four minutes
        from mlflow import MlflowClient

        out.mkdir(parents=True, exist_ok=True)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out.resolve() / 'mlflow.db'}"
        try:
            self._client: Any = MlflowClient(uri)
            self._client.search_experiments(max_results=1)
        except Exception as error:  # the store's own, of whatever library it is
            raise InputError(
                f"--watch mlflow: {uri} cannot be opened ({_first_line(error)}); "
                "set MLFLOW_TRACKING_URI to a running server or unset it"
            ) from error
        self._run = ""
        self._written: dict[str, int] = {}  # the last step that a metric has in the store
        self._waiting: list[Any] = []
        self._sent = 0.0

    def beside_others(self) -> MLflow:
        return copy.copy(self)

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None:
        self._waiting, self._sent = [], time.monotonic()
        self._try(lambda: self._open(spec))

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None:
        self._add(samples, {"train/loss": loss, "train/samples_per_second": samples_per_second})

    def validated(self, samples: int, metrics: dict[str, dict]) -> None:
        self._add(samples, flat_metrics("valid", metrics))

    def finish(self) -> None:
        self._try(self._send)

    def ended(self, record: Record) -> None:
        self._add(samples_of(record), at_the_end(record))
        self._try(self._send)
        if (failure := record.failure) is not None:
            self._try(lambda: self._client.set_tag(self._run, "failure", failure.reason))
        self._try(lambda: self._client.set_terminated(self._run, record.status.upper()))

    def _open(self, spec: RunSpec) -> None:
        """Go on with the unfinished run of this spec, or begin one."""
        found = self._client.get_experiment_by_name(spec.suite)
        experiment = found.experiment_id if found else self._client.create_experiment(spec.suite)
        same = f"tags.spec_hash = '{spec.hash}' and attributes.status = 'RUNNING'"
        unfinished = self._client.search_runs([experiment], same, max_results=1)
        if unfinished:
            self._run = unfinished[0].info.run_id
            histories = {
                name: self._client.get_metric_history(self._run, name) for name in unfinished[0].data.metrics
            }
            self._written = {name: max(p.step for p in points) for name, points in histories.items()}
            return
        tags = {"spec_hash": spec.hash, "folder": spec.folder_name}
        self._run = self._client.create_run(experiment, run_name=spec.title, tags=tags).info.run_id
        self._written = {}
        from mlflow.entities import Param

        parameters = [Param(name, str(value)) for name, value in parameters_of(spec).items()]
        self._client.log_batch(self._run, params=parameters)

    def _add(self, samples: int, points: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._waiting += [
            Metric(name, value, now, samples)
            for name, value in points.items()
            if samples > self._written.get(name, -1)
        ]
        if time.monotonic() - self._sent > SECONDS_BETWEEN_BATCHES:
            self._try(self._send)

    def _send(self) -> None:
        for start in range(0, len(self._waiting), MOST_IN_A_BATCH):
            self._client.log_batch(self._run, metrics=self._waiting[start : start + MOST_IN_A_BATCH])
        self._waiting, self._sent = [], time.monotonic()

    def _try(self, call: Callable[[], None]) -> None:
        """Watching must not break what is watched."""
        if self._client is None:
            return
        try:
            call()
        except Exception as error:
            self._client, self._waiting = None, []
            warnings.warn(f"MLflow: {_first_line(error)}; runs go on, but nothing more is sent", stacklevel=2)


def flat_metrics(split: str, metrics: dict[str, dict]) -> dict[str, float]:
    """Metrics by task -> ``<split>/<task>/<metric>``, without those that the rows do not define."""
    return {
        f"{split}/{task}/{name}": task_metrics[name]
        for task, task_metrics in metrics.items()
        for name in METRICS
        if task_metrics[name] is not None
    }


def at_the_end(record: Record) -> dict[str, float]:
    """What a record says last: metrics of the test split, costs, speed; what was not measured is left out."""
    costs = {f"cost/{name}": float(getattr(record.cost, name)) for name in COSTS}
    speeds = {f"speed/{name}": getattr(record.training, name, None) for name in SPEEDS}
    metrics = {task: measured.model_dump() for task, measured in record.metrics.items()}
    measured_speeds = {name: value for name, value in speeds.items() if value is not None}
    return flat_metrics("test", metrics) | costs | measured_speeds


def samples_of(record: Record) -> int:
    """Samples trained on; of a failed run, whose record does not say, none."""
    return (record.training.train_samples if record.training else None) or 0


def parameters_of(spec: RunSpec) -> dict[str, Any]:
    """What sets a run apart, flat: ``config.hidden_dim``, ``training.dense_lr``."""
    own = ("architecture", "variant", "dataset", "seed", "tokenizer", "num_tokens", "token_dim", "device")
    return (
        {name: getattr(spec, name) for name in own}
        | {f"config.{name}": value for name, value in spec.config.items()}
        | {f"training.{name}": value for name, value in spec.training.model_dump().items()}
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
