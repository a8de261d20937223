"""How fast a dataset's models answer: the rows of ``serving.csv``, and the table of them."""

from __future__ import annotations

import pandas as pd

from harness.records.contestant import Contestant
from harness.records.serving import ServedModel, ServedPart, Serving, ServingPass
from reports.cells import MISSING, Shown, fixed, grouped, is_missing, percent, short
from reports.sections import Section
from reports.tables.markup import Table

SHOWN_PART: ServedPart = "whole"  # what a request waits for; the dense part stands beside it in the table
NAMED = ("architecture", "variant", "series", "size", "ratio")
FIGURES = [name for name in ServedModel.model_fields if name not in (*NAMED, "spec_hash")]
COLUMNS = ["suite", "dataset", *NAMED, "spec_hash", *FIGURES, "threads", "precision", "device"]
NOISY_NOTE = (
    "~: noisy, the median over rounds is not known to a twentieth, because other work kept the machine; run "
    "the suite again on a quiet one after deleting serving.json."
)


def serving_frame(serving: Serving) -> pd.DataFrame:
    """The rows of ``serving.csv``: one a model, part and batch size, columns as `ServedModel` has fields."""
    rows = []
    for each in serving.passes:
        shared = each.model_dump(include={"suite", "dataset", "threads", "precision", "device"})
        for model in each.models:
            ratio = None if model.ratio is None else str(model.ratio)
            rows.append(shared | model.model_dump() | {"ratio": ratio})
    return pd.DataFrame(rows, columns=COLUMNS)


def shown_batch_size(measured: ServingPass) -> int:
    """The batch size of the main table and figure: the largest."""
    return max(measured.batch_sizes)


def shown_speeds(section: Section) -> dict[Contestant, ServedModel | None]:
    """How fast each model answers, as the main table and figure show it; empty where it was not measured."""
    if (measured := section.serving) is None:
        return {}
    size = shown_batch_size(measured)
    return {who: measured.of(who, SHOWN_PART, size) for who in section.contestants}


def speed_table(section: Section) -> list[Table]:
    """Latency, rate, MFU and memory of each model and batch size, dense part and whole.

    None where nothing was measured.
    """
    measured = section.serving
    if measured is None:
        return []
    pairs = [(who, size) for who in section.contestants for size in measured.batch_sizes]
    columns: dict[str, list[str]] = {
        "model": [who.display_name for who, _ in pairs],
        "rows a call": [grouped(size) for _, size in pairs],
    }
    for part in ("whole", "dense"):
        found = [measured.of(who, part, size) for who, size in pairs]  # type: ignore[arg-type]
        columns[f"{part}: p50 ms"] = [milliseconds(model, "p50") for model in found]
        columns[f"{part}: p99 ms"] = [milliseconds(model, "p99") for model in found]
        columns[f"{part}: samples/s"] = [rate(model) for model in found]
        columns[f"{part}: MFU"] = [mfu(model) for model in found]
    columns["memory, MB"] = [memory(measured.of(who, "dense", size)) for who, size in pairs]
    frame = serving_frame(Serving(passes=[measured]))
    caption = f"How fast the models answer on {section.dataset}"
    return [Table.from_columns(f"speed-{section.name}", caption, frame, columns, speed_notes(measured))]


def speed_notes(measured: ServingPass) -> list[str]:
    """How the figures were measured, and what marks the noisy ones."""
    threads = "one thread" if measured.threads == 1 else f"{measured.threads} threads"
    processor = measured.environment.get("processor", "an unnamed processor")
    notes = [
        f"Measured on {measured.device} ({processor}, {threads}, {measured.precision}) in turns: each round "
        "visits every model. Whole: look-ups and dense part; dense: what comes after the look-ups.",
        "p99 with its 95% interval, which assumes no distribution; its upper end needs 368 calls.",
        f"MFU: FLOP/s over those of a matrix product of the same moment; here {short(measured.peak_flops)}"
        f"FLOP/s ({measured.peak_source}). Memory: most that the dense part held in a call.",
    ]
    return notes + ([NOISY_NOTE] if any(model.noisy for model in measured.models) else [])


def milliseconds(model: ServedModel | None, quantile: str, with_interval: bool = True) -> str:
    """``46.2 (44.7 to 61.4)``; of p50 the value alone. A tilde before a noisy one."""
    if model is None:
        return MISSING
    value, low, high = (getattr(model, f"latency_ms_{quantile}{end}") for end in ("", "_low", "_high"))
    text = _marked(short(value), model)
    if quantile == "p99" and with_interval and low is not None:
        text += f" (above {short(low)})" if high is None else f" ({short(low)} to {short(high)})"
    return Shown(text, value)


def rate(model: ServedModel | None) -> str:
    """Samples a second."""
    if model is None:
        return MISSING
    return Shown(_marked(short(model.samples_per_second), model), model.samples_per_second)


def mfu(model: ServedModel | None) -> str:
    """The share of the peak in percent."""
    return MISSING if model is None else Shown(_marked(percent(model.mfu, 0), model), model.mfu)


def memory(model: ServedModel | None) -> str:
    """Megabytes (10^6 bytes)."""
    if model is None or is_missing(model.memory_bytes):
        return MISSING
    return fixed(model.memory_bytes / 1e6, 1)  # type: ignore[operator]


def _marked(text: str, model: ServedModel) -> str:
    return f"~{text}" if model.noisy else str(text)
