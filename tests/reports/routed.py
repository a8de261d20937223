"""Made-up runs of models with experts, and of the suite that compares them by active ratio."""

from __future__ import annotations

from pathlib import Path

from tests.reports.made_up import comparison_rows, metrics, record, reference, wobble, write_out

RATIOS = {"1": 1.0, "1/2": 0.5, "1/4": 0.25, "1/8": 0.125}
LOST = {"dense": 0.0016, "smoe": 0.0012, "smoe-balance": 0.0009, "dtsi-relu": 0.0002}  # by halving the ratio
NUM_LAYERS, NUM_EXPERTS = 2, 8
DEAD = 0.0004  # share of test rows of an expert that counts as dead


def routing(target: float, *key: object, tokens: int = 16, is_free: bool = True, moments: int = 40) -> dict:
    """What a model with experts records; ``is_free`` routers spread the ratio unevenly over the tokens.

    Below a ratio of 1, the first expert of the last token is dead in every layer.
    """

    def share(layer: int, token: int, moment: float) -> float:
        if not is_free:
            return target
        uneven = 0.6 * wobble("uneven", layer, token) * target
        start = 0.5 * (1 - moment) ** 3
        return min(1.0, max(0.0, target + uneven + start + 0.02 * wobble(layer, token, moment, *key)))

    def experts(layer: int, token: int) -> list[float]:
        """Shares around the token's ratio; pairs of experts lean opposite ways, so that the mean stays."""
        mean = share(layer, token, 1.0)
        if token == tokens - 1 and target < 1:
            taken_over = (mean - DEAD) / (NUM_EXPERTS - 1)
            return [DEAD, *[mean + taken_over] * (NUM_EXPERTS - 1)]
        leanings = [0.5 * wobble(pair, layer, token, *key) * (1 - mean) for pair in range(NUM_EXPERTS // 2)]
        return [mean * (1 + way * leaning) for leaning in leanings for way in (-1, 1)]

    places = [[experts(layer, token) for token in range(tokens)] for layer in range(NUM_LAYERS)]
    flat = [value for layer in places for token in layer for value in token]
    training = [
        {
            "samples": 4096 * moment,
            "active": [
                [share(layer, t, moment / moments) for t in range(tokens)] for layer in range(NUM_LAYERS)
            ],
            "penalty_coefficient": 0.001 * moment if is_free else None,
        }
        for moment in range(1, moments + 1)
    ]
    test = {"active_ratio": sum(flat) / len(flat), "active_experts": places}
    return {"target": target, "training": training, "test": test}


def rankmixer(variant: str = "", seed: int = 0, gain: float = 0.0, **changes) -> dict:
    """A finished run of a row of an ablation: no budget, AUC and UAUC higher than the base's by ``gain``."""
    made = record("rankmixer", seed, **({"variant": variant, "budget": None} | changes))
    for task, level in (("finish", 0.7371), ("skip", 0.7069)):
        auc = level + gain + 0.0004 * wobble(variant, seed, task)
        made["metrics"][task] = metrics(auc, auc - 0.07, level + gain - 0.06)
    for point in made["validation"]:
        for measured in point["metrics"].values():
            measured["auc"] += gain
    made["curve"] = [[samples, loss - 20 * gain] for samples, loss in made["curve"]]
    config = {"model_dim": 64, "ffn_dim": 128}
    made["spec"] |= {"config": config, "variant": variant, "num_tokens": 16, "tokenizer": "chunks"}
    made["cost"] |= dict.fromkeys(("flops_per_sample", "active_flops_per_sample"), 1_200_000)
    made["cost"] |= {"dense_params": 600_000}
    return made


def figure3_records(seeds: int = 3, tokens: int = 16, ratios: tuple[str, ...] = tuple(RATIOS)) -> list[dict]:
    """The dense base, narrower dense models, and three kinds of experts at each ratio."""
    made = [rankmixer(seed=seed) for seed in range(seeds)]
    for stem, lost in LOST.items():
        for name in ratios if stem != "dense" else [name for name in ratios if name != "1"]:
            ratio, gain = RATIOS[name], -lost * list(RATIOS).index(name)
            smaller = round(1_200_000 * (0.2 + 0.8 * ratio))
            for seed in range(seeds):
                run = rankmixer(f"{stem}-{name}", seed, gain)
                run["cost"]["active_flops_per_sample"] = smaller
                if stem == "dense":
                    run["spec"]["config"] = {"model_dim": 64, "ffn_dim": int(128 * ratio)}
                    run["cost"] |= {"flops_per_sample": smaller, "dense_params": smaller // 2}
                else:
                    free = stem == "dtsi-relu" and ratio < 1
                    run["routing"] = routing(ratio, stem, seed, tokens=tokens, is_free=free)
                made.append(run)
    return made


def write_figure3(
    out: Path, seeds: int = 3, tokens: int = 16, ratios: tuple[str, ...] = tuple(RATIOS)
) -> Path:
    """The folder of a suite ``figure3`` with the data set's reference rows."""
    made = [*figure3_records(seeds, tokens, ratios), reference("oracle"), reference("constant")]
    for run in made:
        run["suite"] = "figure3"
    compared = comparison_rows(made, base="rankmixer")
    changes = {"name": "figure3", "paper_table": "figure3", "base": "rankmixer", "budget": None}
    return write_out(out, made, compared, seeds=seeds, **changes)
