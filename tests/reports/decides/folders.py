"""Made-up results of the page "What decides": tiny folders, whose AUCs a formula gives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from harness.evaluation.contrasts.along_rows import at_most_rows, contrasts_along_rows, paired_differences
from harness.evaluation.oracle.loss_fits import COLUMNS as FIT_COLUMNS
from harness.records.contestant import Contestant
from harness.records.store import read_runs
from tests.reports.made_up import comparison_rows, record, reference, wobble, write_out

TASKS = ("finish", "skip")
POINTS = (100_000, 300_000, 1_000_000)
SIZES = ("0.3M", "1M", "3M")
# AUC at the fewest rows, and how much a tenfold number of rows adds.
MODELS = {"dlrm_mlp": (0.64, 0.03), "dcnv2": (0.643, 0.031), "rankmixer": (0.638, 0.036)}
VARIANTS = {
    "": (0.0, 0.0), "shared-ffn": (-0.004, 0.0), "no-mixing": (-0.008, -0.001),
    "no-norm": (0.001, 0.0), "dense-1/8": (-0.003, -0.002), "dtsi-relu-1/8": (-0.004, 0.001),
}  # fmt: skip
CONTRASTS = [("", "shared-ffn")]
EXPERTS = [Contestant("rankmixer", name) for name in ("dtsi-relu-1/8", "dense-1/8")]


def auc(
    architecture: str, variant: str, size: str, samples: int, *chance: object, lift: float = 0.0
) -> float:
    start, slope = MODELS[architecture]
    less, flatter = VARIANTS[variant]
    grown = 0.004 * math.log10(float(size[:-1]) / 0.3) if size else 0.0
    noise = 0.0015 * wobble(architecture, variant, size, samples, *chance)
    return round(start + less + lift + grown + (slope + flatter) * math.log10(samples / POINTS[0]) + noise, 6)


def run(architecture: str, seed: int = 0, variant: str = "", size: str = "", lift=0.0, **fields) -> dict:
    """A run tested after `POINTS` rows; ``lift`` is added to its AUC."""
    world = fields.get("world")
    name = "-".join(filter(None, [variant, size]))
    made = record(architecture, seed, tasks=TASKS, variant=name, **fields)
    made |= {"series": variant, "size": size, "ratio": None}
    values = {
        samples: {
            task: {"auc": auc(architecture, variant, size, samples, seed, world, task, lift=lift)}
            for task in TASKS
        }
        for samples in POINTS
    }
    for metrics in (metrics for point in values.values() for metrics in point.values()):
        metrics["logloss"] = round(1.2 - metrics["auc"], 6)
    made["tested"] = [
        {"step": samples // 512, "samples": samples, "metrics": metrics}
        for samples, metrics in list(values.items())[:-1]
    ]
    for task, metrics in values[POINTS[-1]].items():
        made["metrics"][task] |= metrics
    made["training"]["train_samples"] = POINTS[-1]
    if size:
        made["cost"]["flops_per_sample"] = int(float(size[:-1]) * 1e6)
        made["budget"] = {"kind": "flops_per_sample", "target": float(size[:-1]) * 1e6, "miss": 0.0}
    return made


def references(worlds: Iterable[int | None]) -> list[dict]:
    made = []
    for world in worlds:
        for name, value, loss in (("oracle", 0.85 + 0.01 * (world or 0), 0.40), ("constant", 0.5, 0.69)):
            one = reference(name, tasks=TASKS) | {"world": world}
            for metrics in one["metrics"].values():
                metrics |= {"auc": value, "logloss": loss}
            made.append(one)
    return made


def write_curves(out: Path, models=MODELS, seeds: int = 2) -> None:
    runs = [run(name, seed, size=size) for name in models for size in SIZES for seed in range(seeds)]
    runs += [run("dlrm_mlp", seed) for seed in range(seeds)]
    write_out(out, [*runs, *references([None])], [], name="curves", analyses=["scaling", "loss_fits"])
    laws = {
        name: {"E": 0.01, "A": 20.0 / (1 + 0.2 * place), "alpha": 0.5, "B": 3.8, "beta": 0.35 + 0.01 * place}
        for place, name in enumerate(models)
    }
    shared = {"suite": "curves", "dataset": "shortvideo", "variant": "", "sizes": 3, "points": 9}
    shared |= {"repeats": seeds, "least_flops": 3e5, "most_flops": 3e6}
    shared |= {"least_rows": POINTS[0], "most_rows": POINTS[-1]}
    rows = [
        shared | {"task": task, "architecture": name} | law for task in TASKS for name, law in laws.items()
    ]
    pd.DataFrame(rows, columns=FIT_COLUMNS).to_csv(out / "loss_fits.csv", index=False)
    named_as(out, "curves")


def write_worlds(out: Path, worlds: int = 3) -> None:
    rows = [*((name, "1M") for name in MODELS), ("dlrm_mlp", "")]
    runs = [run(name, 0, size=size, world=world) for name, size in rows for world in range(worlds)]
    write_out(out, [*runs, *references(range(worlds))], [], name="curves")
    named_as(out, "curves")


def write_heterogeneity(out: Path, lift: float, worlds: int = 3) -> None:
    """``lift`` is what the plain RankMixer gains in these worlds."""
    rows = [
        ("dlrm_mlp", "", 0.0),
        ("dcnv2", "", 0.0),
        ("rankmixer", "", lift),
        ("rankmixer", "shared-ffn", 0.0),
    ]
    runs = [
        run(name, 0, variant, lift=more, world=world)
        for name, variant, more in rows
        for world in range(worlds)
    ]
    pairs = [("dcnv2", ""), ("rankmixer", "shared-ffn")]
    named = [{"architecture": name, "variant": variant} for name, variant in pairs]
    ours = {"architecture": "rankmixer", "variant": ""}
    write_out(
        out, [*runs, *references(range(worlds))], [], name=out.name, contrasts=[(ours, one) for one in named]
    )
    named_as(out, out.name)
    # What the harness would have written, without users.
    stored = read_runs(out)
    paired = paired_differences(
        stored.records, [(Contestant("rankmixer"), Contestant(*pair)) for pair in pairs]
    )
    found = contrasts_along_rows(at_most_rows(paired)).rename(
        columns={"diff_low": "low", "diff_high": "high"}
    )
    unused = ("mean", "base_mean", "users_low", "users_high", "seeds_low", "seeds_high")
    named = {"suite": out.name, "dataset": "shortvideo", "users": 100, "seeds": worlds, "worlds": worlds}
    found = found.assign(**named, **dict.fromkeys(unused, 0.7))
    found.to_csv(out / "contrasts.csv", index=False)


def write_parts(out: Path, worlds: int = 3) -> None:
    variants = ("", "shared-ffn", "no-mixing", "no-norm")
    runs = [run("rankmixer", 0, variant, world=world) for variant in variants for world in range(worlds)]
    compared = [row | {"suite": out.name} for row in comparison_rows(runs, "rankmixer")]
    write_out(out, runs, compared, name=out.name, base="rankmixer", analyses=["ablations"], budget=None)
    named_as(out, out.name)


def write_experts(out: Path, worlds: int = 3) -> None:
    variants = ("", "dense-1/8", "dtsi-relu-1/8")
    runs = [run("rankmixer", 0, variant, world=world) for variant in variants for world in range(worlds)]
    for made in runs:  # what the gates opened differs from world to world
        opened = 100_000 + 10_000 * made["world"] if made["series"].startswith("dtsi") else 90_000
        made["cost"]["active_flops_per_sample"] = opened
    pair = [{"architecture": "rankmixer", "variant": who.variant} for who in EXPERTS]
    write_out(out, runs, [], name=out.name, base="rankmixer", contrasts=[pair])
    named_as(out, out.name)


def named_as(out: Path, suite: str) -> None:
    """Have the records say which suite they are of."""
    for path in (out / "runs").glob("*/record.json"):
        path.write_text(path.read_text().replace('"suite": "quick"', f'"suite": "{suite}"'))


WRITERS = {
    "curves": write_curves,
    "curves-worlds": write_worlds,
    "heterogeneity-apart": lambda out: write_heterogeneity(out, 0.01),
    "heterogeneity-shared": lambda out: write_heterogeneity(out, 0.002),
    "experts-at-scale": write_experts,
    "parts-at-scale": write_parts,
}


def write_all(root: Path, names=WRITERS) -> Path:
    for name in names:
        WRITERS[name](root / name)
    return root
