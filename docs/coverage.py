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

from harness.evaluation.differences import MeasuredWorld, differences  # noqa: E402
from harness.evaluation.statistics.bootstrap import UserBootstrap  # noqa: E402
from harness.records.contestant import Contestant  # noqa: E402
from harness.records.record import Record  # noqa: E402

SEEDS, RATIOS, MODELS = (2, 3, 5, 10), (1, 2, 3, 5), 6
REPEATS, USER_DRAWS = 2000, 100


def main() -> None:
    """Print the tables."""
    print(TEXT.format(repeats=f"{REPEATS:,}"))
    generator = np.random.default_rng(0)
    print("| seeds | users | " + " | ".join(f"ratio {ratio}" for ratio in RATIOS) + " | the others |")
    print("|---|---|" + "---|" * (len(RATIOS) + 1))
    for seeds in SEEDS:
        for users in (0, 1):
            held = [coverage(seeds, ratio, users, generator) for ratio in RATIOS]
            cells = [f"{odd:.3f}" for odd, _ in held] + [f"{np.mean([rest for _, rest in held]):.3f}"]
            print(f"| {seeds} | {'as much' if users else 'none'} | {' | '.join(cells)} |")


def coverage(seeds: int, ratio: float, users: float, generator: np.random.Generator) -> tuple[float, float]:
    """How often the interval of the row whose runs spread ``ratio`` times as much holds zero; and another's.

    Args
        users: spread of a difference over draws of users, in units of the spread of the plain rows' mean
            over seeds.
    """
    spreads = np.ones((MODELS + 1, 1))
    spreads[1] = ratio
    users_sd = users / np.sqrt(seeds)
    held = np.empty((REPEATS, 2))
    for i in range(REPEATS):
        seed_effects = 3 * generator.normal(size=seeds)  # the same for all models
        user_effects = users_sd * generator.normal(size=(MODELS + 1, 1))
        values = spreads * generator.normal(size=(MODELS + 1, seeds)) + seed_effects + user_effects
        drawn = users_sd * generator.normal(size=(USER_DRAWS if users else 1, MODELS + 1)) * bool(users)
        rows = differences([measured(values, drawn)], pairs((1, 2)), Counter())
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


def pairs(chosen: Sequence[int]) -> list[tuple[Contestant, Contestant]]:
    """The ``chosen`` models with the base, which is model 0."""
    return [(RUNS[model][0].contestant, RUNS[0][0].contestant) for model in chosen]


def run_of(model: int, seed: int) -> Record:
    """A finished run of which only its name and seed matter."""
    return Record.model_validate(
        {"kind": "model", "status": "finished", "suite": "made-up", "architecture": f"model-{model}"}
        | {"dataset": "toy", "seed": seed, "spec_hash": "", "spec": {}, "started_at": ""}
    )


RUNS = [[run_of(model, seed) for seed in range(max(SEEDS))] for model in range(MODELS + 1)]

TEXT = """# How often the intervals hold the truth

`python docs/coverage.py > docs/coverage.md`

Each cell has {repeats} made-up suites of six models as good as the base; the interval of a row uses its own
runs and the base's alone, so their number does not matter. The runs of one model spread *ratio* times as much
over seeds as those of the base and of the others. A cell is the share of 95% intervals of that model's
difference to the base that hold zero; the last column is the share for one of the other models, over all
ratios. *users* is what the test users add: nothing, or as much as the seeds of the other models do. The
standard error of a cell is .005.

With two seeds no verdict is given. With users, the interval is too wide rather than too narrow
(`harness/evaluation/statistics/joint.py` says why).
"""

if __name__ == "__main__":
    main()
