"""Made-up output folders, written as the contract of a run record says."""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path

ARCHITECTURES = ["dlrm_mlp", "deepfm", "dcn", "autoint", "transformer", "rankmixer"]
NAMES = {  # as papers write them
    "dlrm_mlp": "DLRM-MLP",
    "deepfm": "DeepFM",
    "dcn": "DCN",
    "autoint": "AutoInt",
    "transformer": "Transformer",
    "wukong": "Wukong",
    "rankmixer": "RankMixer",
}
TRUE_GAIN = {
    "dlrm_mlp": 0.0,
    "deepfm": 0.0012,
    "dcn": 0.0021,
    "autoint": -0.0032,
    "transformer": 0.0028,
    "rankmixer": 0.0064,
}
LEVELS = {
    "finish": {"auc": 0.7312, "uauc": 0.6541, "gauc": 0.6620},
    "skip": {"auc": 0.7011, "uauc": 0.6233, "gauc": 0.6311},
}
COMPARISON_COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
    *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
    *("low", "high", "resolved", "p_value", "p_holm", "effect_size", "detectable"),
]


def wobble(*key: object) -> float:
    """A number in [-1, 1] that the key alone decides, the same in every process."""
    return zlib.crc32(repr(key).encode()) % 2001 / 1000 - 1


def metrics(auc: float, uauc: float, gauc: float, **others: float) -> dict:
    return {
        "auc": auc,
        "uauc": uauc,
        "gauc": gauc,
        "logloss": 0.55,
        "normalized_entropy": 0.91,
        "calibration": 1.01,
        "users": 1180,
        "rows": 14510,
        "one_class_users": 95,
        "one_class_rows": 490,
    } | others


def record(
    architecture: str, seed: int = 0, dataset: str = "shortvideo", tasks=("finish", "skip"), **changes
) -> dict:
    """A finished run of a model; ``changes`` replace top-level fields."""
    gain = TRUE_GAIN.get(architecture, 0.001)
    measured = {
        task: metrics(
            **{
                name: round(level + gain + 0.0008 * wobble(architecture, seed, task, name), 6)
                for name, level in LEVELS.get(task, LEVELS["finish"]).items()
            }
        )
        for task in tasks
    }
    minute = ARCHITECTURES.index(architecture) if architecture in ARCHITECTURES else 9
    flops = 1_000_000 + int(20_000 * wobble(architecture))
    return {
        "kind": "model",
        "status": "finished",
        "failure": None,
        "suite": "quick",
        "architecture": architecture,
        "variant": "",
        "dataset": dataset,
        "seed": seed,
        "spec_hash": f"{architecture[:4]:0<10}{seed:02d}",
        "spec": {"architecture": architecture, "tasks": list(tasks), "seed": seed, "dataset": dataset},
        "cost": {
            "dense_params": 523_000 + int(90_000 * wobble("p", architecture)),
            "sparse_params": 12_400_000,
            "flops_per_sample": flops,
            "active_flops_per_sample": flops,
            "train_flops_per_sample": 3 * flops,
            "flops_per_batch_512": 512 * flops,
        },
        "budget": {"kind": "flops_per_sample", "target": 1e6, "miss": flops / 1e6 - 1},
        "metrics": measured,
        "validation": [
            {
                "step": step,
                "samples": step * 1024,
                "metrics": {
                    t: metrics(m["auc"] - 0.06 / step, m["uauc"] - 0.05 / step, m["gauc"] - 0.05 / step)
                    for t, m in measured.items()
                },
            }
            for step in (1, 2, 3, 4)
        ],
        "curve": [
            [1024 * i, 1.2 + 0.5 / (1 + i) - 3 * gain + 0.01 * wobble(architecture, seed, i)]
            for i in range(40)
        ],
        "training": {
            "train_samples": 120_000,
            "train_seconds": 9.5,
            "train_samples_per_second": 12_600.0 + 2000 * wobble("s", architecture, seed),
            "eval_samples_per_second": 40_100.0,
            "mfu_train": 0.231 + 0.05 * wobble("m", architecture),
            "batch_size": 1024,
            "precision": "fp32",
            "device": "cpu",
            "peak_flops": 1.6e11,
            "peak_source": "GEMM 2048 x 2048 measured on this machine",
            "epochs": 1,
            "dense_optimizer": "adam",
        },
        "dataset_info": {
            "fingerprint": "0123456789ab",
            "rows": {"train": 120_000, "valid": 15_000, "test": 15_000},
            "users": 1275,
            "notes": {"rows": 150_000},
        },
        "environment": {"torch": "2.13.0", "python": "3.11", "cores": 2},
        "started_at": f"2026-01-01T00:{minute:02d}:{seed:02d}",
        "finished_at": "2026-01-01T01:00:00",
    } | changes


def reference(name: str, dataset: str = "shortvideo", tasks=("finish", "skip"), lift: float = 0.03) -> dict:
    """A reference row: never trained, costs nothing."""
    made = record(
        name,
        0,
        dataset,
        tasks,
        kind="reference",
        cost=None,
        budget=None,
        training=None,
        validation=[],
        curve=[],
    )
    for task, measured in made["metrics"].items():
        level = LEVELS.get(task, LEVELS["finish"])
        values = {m: 0.5 if name == "constant" else level[m] + lift for m in ("auc", "uauc", "gauc")}
        made["metrics"][task] = (
            measured | values | ({"normalized_entropy": 1.0} if name == "constant" else {})
        )
    return made


def failed(architecture: str, seed: int = 0, **changes) -> dict:
    return record(
        architecture,
        seed,
        status="failed",
        failure={"step": 117, "reason": "the loss is NaN"},
        metrics={},
        validation=[],
        training=None,
        **changes,
    )


def comparison_rows(records: list[dict], base: str = "dlrm_mlp", half_width: float = 0.0015) -> list[dict]:
    """What the harness would have compared: means over seeds, an interval of fixed width."""
    runs = [r for r in records if r["status"] == "finished" and r["kind"] == "model"]
    rows = []
    for dataset in dict.fromkeys(r["dataset"] for r in runs):
        here = [r for r in runs if r["dataset"] == dataset]
        for architecture, variant in dict.fromkeys((r["architecture"], r["variant"]) for r in here):
            if architecture == base and not variant:
                continue
            runs_here = [r for r in here if (r["architecture"], r["variant"]) == (architecture, variant)]
            bases = [r for r in here if r["architecture"] == base and not r["variant"]]
            if not bases:
                continue
            for task in runs_here[0]["metrics"]:
                for metric in ("auc", "uauc", "gauc"):
                    mean, base_mean = (
                        sum(r["metrics"][task][metric] for r in g) / len(g) for g in (runs_here, bases)
                    )
                    diff = mean - base_mean
                    low, high = diff - half_width, diff + half_width
                    rows.append(
                        {
                            "suite": runs_here[0]["suite"],
                            "dataset": dataset,
                            "task": task,
                            "metric": metric,
                            "architecture": architecture,
                            "variant": variant,
                            "base": base,
                            "seeds": len(runs_here),
                            "users": 1180,
                            "mean": mean,
                            "base_mean": base_mean,
                            "diff": diff,
                            "users_low": low,
                            "users_high": high,
                            "low": low,
                            "high": high,
                            "resolved": "yes" if low > 0 or high < 0 else "no",
                        }
                    )
    return rows


def suite(records: list[dict], **changes) -> dict:
    models = [r for r in records if r["kind"] == "model"]
    pairs = dict.fromkeys((r["architecture"], r["variant"]) for r in models)
    return {
        "name": "quick",
        "description": "Six architectures at one matched budget",
        "paper_table": "table1",
        "base": "dlrm_mlp",
        "architectures": [{"architecture": a, "variant": v} for a, v in pairs],
        "datasets": list(dict.fromkeys(r["dataset"] for r in records)),
        "seeds": 2,
        "tasks": None,
        "budget": {"kind": "flops_per_sample", "target": 1e6},
        "command": "run_bench.py run quick --out out",
    } | changes


def write_out(out: Path, records: list[dict], comparisons: list[dict] | None = None, **suite_changes) -> Path:
    """An output folder with these records, their suite and their comparisons."""
    for number, made in enumerate(records):
        folder = out / "runs" / f"run-{number:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(json.dumps(made))
    (out / "suite.json").write_text(json.dumps(suite(records, **suite_changes)))
    with open(out / "comparisons.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COMPARISON_COLUMNS)
        writer.writeheader()
        writer.writerows(comparison_rows(records) if comparisons is None else comparisons)
    return out


def quick_records(seeds: int = 2, dataset: str = "shortvideo") -> list[dict]:
    """Six architectures and two reference rows: 14 runs at two seeds."""
    models = [record(architecture, seed, dataset) for seed in range(seeds) for architecture in ARCHITECTURES]
    return [*models, reference("oracle", dataset), reference("constant", dataset)]
