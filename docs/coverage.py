"""How often the 95% intervals of differences hold the truth: ``python docs/coverage.py > docs/coverage.md``.

Runs are made up from normal distributions: nobody is better than the base, so an interval that leaves out
zero is wrong. The intervals are those of ``harness/evaluation/differences.py``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.evaluation.bootstrap import UserBootstrap  # noqa: E402
from harness.evaluation.differences import MeasuredWorld, differences  # noqa: E402
from harness.records.contestant import Contestant  # noqa: E402
from harness.records.record import Record  # noqa: E402

SEEDS, RATIOS, MODELS = (2, 3, 5, 10), (1, 2, 3, 5), (6, 19)
REPEATS, USER_DRAWS = 2000, 100


def main() -> None:
    """Print the tables."""
    print(TEXT.format(repeats=f"{REPEATS:,}"))
    generator = np.random.default_rng(0)
    print("| K | seeds | users | " + " | ".join(f"ratio {ratio}" for ratio in RATIOS) + " | the others |")
    print("|---|---|---|" + "---|" * (len(RATIOS) + 1))
    for models in MODELS:
        for seeds in SEEDS:
            for users in (0, 1):
                held = [coverage(models, seeds, ratio, users, generator) for ratio in RATIOS]
                cells = [f"{odd:.3f}" for odd, _ in held] + [f"{np.mean([rest for _, rest in held]):.3f}"]
                print(f"| {models} | {seeds} | {'as much' if users else 'none'} | {' | '.join(cells)} |")


def coverage(
    models: int, seeds: int, ratio: float, users: float, generator: np.random.Generator
) -> tuple[float, float]:
    """How often the row whose runs spread ``ratio`` times as much as the base's holds zero; and another row.

    Args
        models: how many are compared with the base.
        users: spread of a difference over draws of users, in that of the plain rows' mean over seeds.
    """
    spreads = np.ones((models + 1, 1))
    spreads[1] = ratio
    users_sd = users / np.sqrt(seeds)
    held = np.empty((REPEATS, 2))
    for i in range(REPEATS):
        of_seeds = 3 * generator.normal(size=seeds)  # what a seed does to all alike
        of_users = users_sd * generator.normal(size=(models + 1, 1))
        values = spreads * generator.normal(size=(models + 1, seeds)) + of_seeds + of_users
        drawn = users_sd * generator.normal(size=(USER_DRAWS if users else 1, models + 1)) * bool(users)
        rows = differences([measured(values, drawn)], pairs(models, (1, 2)), Counter())
        held[i] = [row["low"] <= 0 <= row["high"] for row in rows]
    odd, rest = held.mean(axis=0)
    return float(odd), float(rest)


def measured(values: NDArray[np.float64], draws: NDArray[np.float64]) -> MeasuredWorld:
    """Runs whose AUC is ``values`` (models, seeds), and differs by ``draws`` (R, models) for other users."""
    models, seeds = values.shape
    runs = [RUNS[model][seed] for model in range(models) for seed in range(seeds)]
    point, drawn = values.ravel(), values.ravel() + np.repeat(draws, seeds, axis=1)
    unknown = {"uauc": np.full_like(point, np.nan), "gauc": np.full_like(point, np.nan)}
    unknown_draws = {"uauc": np.full_like(drawn, np.nan), "gauc": np.full_like(drawn, np.nan)}
    users = dict.fromkeys(("auc", "uauc", "gauc"), 1000)
    return MeasuredWorld(
        None, runs, UserBootstrap({"auc": point} | unknown, {"auc": drawn} | unknown_draws, users)
    )


def pairs(models: int, chosen: Sequence[int]) -> list[tuple[Contestant, Contestant]]:
    """The ``chosen`` models with the base, which is model 0."""
    return [(RUNS[model][0].contestant, RUNS[0][0].contestant) for model in chosen if model <= models]


def run_of(model: int, seed: int) -> Record:
    """A finished run of which only its name and seed matter."""
    return Record.model_validate(
        {"kind": "model", "status": "finished", "suite": "made-up", "architecture": f"model-{model}"}
        | {"dataset": "toy", "seed": seed, "spec_hash": "", "spec": {}, "started_at": ""}
    )


RUNS = [[run_of(model, seed) for seed in range(max(SEEDS))] for model in range(max(MODELS) + 1)]

TEXT = """# How often the intervals hold the truth

`python docs/coverage.py > docs/coverage.md`

Of {repeats} made-up suites each: K models as good as the base. The runs of one model spread *ratio* times as
much over seeds as those of the base and of the others. A cell is the share of 95% intervals of that model's
difference to the base that hold zero; the last column is that of one of the other models, over all ratios.
*users* is what the test users add: nothing, or as much as the seeds of the other models do. The standard
error of a cell is .005.

The interval of a row is made of its own runs and the base's alone, so K does not matter. With two seeds no
verdict is given, whatever the interval says. With users, the interval is too wide rather than too narrow
(`harness/evaluation/joint.py` says why).
"""

if __name__ == "__main__":
    main()
