"""Parameters and FLOPs, counted structurally, and the search that matches a budget.

What counts
    FLOPs are matrix products (a multiply-add is two), counted by ``torch.utils.flop_counter`` on the
    meta device, so that a model of a billion parameters costs no memory. Counted is the whole dense
    side that training runs: target attention (if on), the linear maps of vector features, the
    architecture with its own projections, and the towers. Not counted, for any architecture:
    look-ups, norms, activations, softmax, elementwise products (FM, the DCN v1 cross, number
    embeddings), permutations and the optimizer.
    ``dense_params`` are the parameters of the dense side, ``sparse_params`` those of the tables.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines.contract import Experts, Knob, Scalable
from datasets.schema import Schema
from files.errors import InputError
from harness.model.architectures import CONTRACT, architecture_class
from harness.model.assembly import DenseSide
from harness.model.embeddings import LookedUp, attended_sequences
from harness.model.tokens import Inputs
from harness.records.cost import Cost

COUNT_BATCH = 8  # at a batch of one some products become matrix-vector and are not counted
MAX_MISS = 0.03
LARGEST_WIDTH = 2**24
CLOSE_MISS = 0.005
ACCEPTABLE_MISS = 0.01  # for a shape nearer to the customary one
FAR = math.log(2)  # from the customary ratio of two knobs
ALIGNMENTS = (64, 32, 16, 8, 4, 2, 1)

BudgetKind = Literal["flops_per_sample", "dense_params"]


@dataclass(frozen=True)
class Match:
    """A config that meets a budget; ``miss`` is (achieved - target) / target."""

    config: dict
    cost: Cost
    miss: float


def sparse_params(schema: Schema, table_sizes: dict[str, int]) -> int:
    """Parameters of the embedding tables, whose numbers of rows are ``table_sizes``."""
    dims = {feature.table: feature.embedding_dim for feature in schema.sparse_features}
    return sum(table_sizes[table] * dim for table, dim in dims.items())


class CostCounter:
    """Counts architectures on one table's tokens.

    Args
        table_sizes: rows of each embedding table, for ``sparse_params``.
        num_tasks: how many towers.
    """

    def __init__(self, schema: Schema, table_sizes: dict[str, int], inputs: Inputs, num_tasks: int) -> None:
        self.schema = schema
        self.inputs = inputs
        self.num_tasks = num_tasks
        self.sparse_params = sparse_params(schema, table_sizes)
        self._counted: dict[tuple, Cost] = {}
        self._flops_counted: dict[tuple, int] = {}
        self._params_counted: dict[tuple, int] = {}

    def cost(self, architecture: str, config: dict) -> Cost:
        """Cost of one architecture with one config, without allocating it.

        Raises InputError where its forward fails, or does not cost a sample the same in batches of two sizes.
        """
        key = _key(architecture, config)
        if key not in self._counted:
            self._counted[key] = self._count(architecture, config)
        return self._counted[key]

    def budgeted(self, architecture: str, config: dict, kind: BudgetKind) -> int:
        """What a budget limits: forward FLOPs a sample, or dense parameters, which need no forward pass."""
        key = _key(architecture, config)
        counted = self._flops_counted if kind == "flops_per_sample" else self._params_counted
        if key not in counted:
            dense = self._build(architecture, config)
            self._params_counted[key] = sum(parameter.numel() for parameter in dense.parameters())
            if kind == "flops_per_sample":
                self._flops_counted[key] = self._flops(architecture, dense.eval())
        return counted[key]

    def _count(self, architecture: str, config: dict) -> Cost:
        flops = self.budgeted(architecture, config, "flops_per_sample")
        params = self.budgeted(architecture, config, "dense_params")
        dense = self._build(architecture, config)
        training = self._flops(architecture, dense.train())
        if self._flops(architecture, dense, 2 * COUNT_BATCH) != training:
            raise _depends_on_the_batch(architecture)
        cost = Cost(params, self.sparse_params, flops, flops, 3 * training)
        backbone: Any = dense.backbone
        if not isinstance(backbone, Experts):
            return cost
        cost = dataclasses.replace(cost, expert_flops_per_sample=backbone.expert_flops)
        return cost.at_active_ratio(backbone.active_ratio)

    def _build(self, architecture: str, config: dict) -> DenseSide:
        try:
            with torch.device("meta"):
                return DenseSide(self.schema, self.inputs, architecture, config, self.num_tasks)
        except RuntimeError as error:  # a size that no tensor can have
            raise InputError(
                f"architecture {architecture!r}: cannot be built with {config} ({error}); "
                "lower its sizes or the budget"
            ) from error

    def _flops(self, architecture: str, dense: DenseSide, rows: int = COUNT_BATCH) -> int:
        looked_up, numbers = fake_inputs(self.schema, self.inputs, rows)
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                dense(looked_up, numbers)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"architecture {architecture!r}: forward fails on {self.inputs.num_tokens} tokens of width "
                f"{self.inputs.token_dim} ({type(error).__name__}: {error}); mend it"
            ) from error
        flops, remainder = divmod(counter.get_total_flops(), rows)
        if remainder:
            raise _depends_on_the_batch(architecture)
        return flops

    def match(self, architecture: str, config: dict, kind: BudgetKind, target: float) -> Match:
        """Set the architecture's knobs so that ``kind`` meets ``target``.

        The coarse knob (a width) is searched first, with the fine knob at its customary ratio; the
        fine knob then closes the gap, on a few neighbouring widths. Among settings within half a
        percent the one nearest the customary ratio wins, then the most aligned widths, since
        hardware prefers them; so it goes for every architecture alike. A field that ``config`` sets
        is left alone.

        Raises InputError, naming the nearest reachable budgets, if the best miss is over 3%.
        """
        return _Search(self, architecture, dict(config), kind, target).run()


class _Search:
    """One match: knobs, target, and the evaluation of a candidate."""

    def __init__(
        self, counter: CostCounter, architecture: str, config: dict, kind: BudgetKind, target: float
    ) -> None:
        self.counter, self.architecture, self.config = counter, architecture, config
        self.kind, self.target = kind, target
        cls = architecture_class(architecture)
        if not isinstance(cls, Scalable):
            raise InputError(f"architecture {architecture!r}: has no knobs to meet a budget with; {CONTRACT}")
        knobs = cls.knobs(counter.inputs.num_tokens, counter.inputs.token_dim)
        self.ratio = knobs.fine_per_coarse
        self.knobs = [knob for knob in knobs.each if not knob.is_fixed(config)]
        if not self.knobs:
            set_by = [k.field if k.field in config else str(k.fixed_by) for k in knobs.each]
            names = " and ".join(set_by)
            raise InputError(
                f"architecture {architecture!r}: its config sets {names}, so nothing is left to meet the "
                "budget; remove one or give no budget"
            )

    def run(self) -> Match:
        candidates = self._two_knobs() if len(self.knobs) == 2 else self._one_knob(self.knobs[0], {})
        best = min(candidates, key=self._rank)
        if abs(self._miss(best)) > MAX_MISS:
            raise InputError(self._out_of_reach(candidates))
        config = {**self.config, **best}
        return Match(config, self.counter.cost(self.architecture, config), self._miss(best))

    def _value(self, setting: dict) -> int:
        return self.counter.budgeted(self.architecture, {**self.config, **setting}, self.kind)

    def _miss(self, setting: dict) -> float:
        return (self._value(setting) - self.target) / self.target

    def _one_knob(self, knob: Knob, fixed: dict) -> list[dict]:
        """The values that meet the target most closely at each alignment, below and above it.

        A side ends at its first miss of more than half a percent: coarser alignments miss by more.
        """
        low = self._last_below(lambda value: {**fixed, knob.field: value}, knob)
        found: list[dict] = []
        for side in _aligned_around(low, knob):
            for value in side:
                found.append({**fixed, knob.field: value})
                if abs(self._miss(found[-1])) > CLOSE_MISS:
                    break
        return found

    def _two_knobs(self) -> list[dict]:
        """For coarse values around the customary setting, the fine values that meet the target."""
        coarse, fine = self.knobs

        def tied(value: int) -> dict:
            return {coarse.field: value, fine.field: self._customary(value, fine)}

        low = self._last_below(tied, coarse)
        aligned = sorted({value for side in _aligned_around(low, coarse) for value in side})
        nearby = [value for value in aligned if abs(value - low) <= max(low / 8, coarse.step)]
        found = []
        for value in nearby:
            if self._value({coarse.field: value, fine.field: fine.minimum}) < self.target:
                found += self._one_knob(fine, {coarse.field: value})
        return found or [tied(value) for value in nearby]

    def _customary(self, coarse_value: int, fine: Knob) -> int:
        return max(fine.minimum, round(self.ratio * coarse_value / fine.step) * fine.step)

    def _last_below(self, setting: Callable[[int], dict], knob: Knob) -> int:
        """The largest value of ``knob`` whose cost is at most the target (or its smallest value).

        A cost is nearly always a parabola in a width, so the one through three counted points leads to the
        value in a few counts. Every third guess halves the bracket instead, which then shrinks for any cost.
        """
        counted: dict[int, int] = {}

        def is_above(steps: int) -> bool:
            counted[steps] = self._value(setting(steps * knob.step))
            return counted[steps] > self.target

        low = -(-knob.minimum // knob.step)
        if is_above(low):
            return low * knob.step
        high = 2 * low
        while not is_above(high):
            if high > LARGEST_WIDTH or counted[high] == counted[low]:
                raise InputError(
                    f"architecture {self.architecture!r}: its knob {knob.field!r} does not raise {self.kind} "
                    f"to {self.target:,.0f}; lower the budget, or name in knobs() the field that scales it"
                )
            low, high = high, min(max(2 * high, _parabola_reaches(self.target, counted)), 64 * high)
        while high - low > 1:
            halve = len(counted) % 3 == 0
            guess = (low + high) // 2 if halve else _parabola_reaches(self.target, counted)
            guess = min(max(guess, low + 1), high - 1)
            low, high = (low, guess) if is_above(guess) else (guess, high)
        return low * knob.step

    def _rank(self, setting: dict) -> tuple:
        """What is closest wins; but half a percent is not worth a shape far from the customary one."""
        miss, misfit = abs(self._miss(setting)), self._misfit(setting)
        if miss > ACCEPTABLE_MISS:
            return (2, miss)
        if miss > CLOSE_MISS or misfit > FAR:
            return (1, misfit, miss)
        alignment = sum(math.log2(math.gcd(setting[knob.field], ALIGNMENTS[0])) for knob in self.knobs)
        return (0, round(5 * misfit), -alignment, miss)  # in steps of a fifth

    def _misfit(self, setting: dict) -> float:
        """How far two knobs are from their customary ratio, as a logarithm."""
        if len(self.knobs) < 2:
            return 0.0
        coarse, fine = (setting[knob.field] for knob in self.knobs)
        return abs(math.log(fine / (self.ratio * coarse)))

    def _out_of_reach(self, candidates: list[dict]) -> str:
        values = sorted({self._value(setting) for setting in candidates})
        below = [value for value in values if value <= self.target]
        above = [value for value in values if value > self.target]
        nearest = " and ".join(f"{value:,}" for value in [*below[-1:], *above[:1]])
        return (
            f"budget: {self.architecture} cannot meet {self.kind} = {self.target:,.0f} "
            f"within {MAX_MISS:.0%}; the nearest it reaches is {nearest}; "
            "choose one of these, or change its config or the tokens"
        )


def _key(architecture: str, config: dict) -> tuple:
    return architecture, tuple(sorted((name, repr(value)) for name, value in config.items()))


def _parabola_reaches(target: float, counted: dict[int, int]) -> int:
    """Where the parabola through the three points nearest to ``target`` meets it; 0 where none does."""
    nearest = sorted(counted.items(), key=lambda point: abs(point[1] - target))[:3]
    if len(nearest) < 3:
        return 0
    (x0, y0), (x1, y1), (x2, y2) = sorted(nearest)
    early, late = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = (late - early) / (x2 - x0)
    slope = late + curvature * (x2 - x1)  # at x2
    discriminant = slope**2 - 4 * curvature * (y2 - target)
    if discriminant < 0 or (root := slope + math.sqrt(discriminant)) <= 0:
        return 0
    return math.floor(x2 - 2 * (y2 - target) / root)


def _aligned_around(value: int, knob: Knob) -> tuple[list[int], list[int]]:
    """For each alignment, the nearest values of ``knob`` at or below ``value``, and above it, outwards."""
    steps = [math.lcm(knob.step, alignment) for alignment in ALIGNMENTS]
    below = {value // step * step for step in steps}
    above = {(value // step + 1) * step for step in steps}
    return (
        sorted((candidate for candidate in below if candidate >= knob.minimum), reverse=True),
        sorted(candidate for candidate in above if candidate >= knob.minimum),
    )


def _depends_on_the_batch(architecture: str) -> InputError:
    return InputError(
        f"architecture {architecture!r}: what a sample costs depends on the batch, so its FLOPs cannot be "
        "matched; multiply no weights by weights, and no rows by rows, in forward"
    )


def fake_inputs(schema: Schema, inputs: Inputs, rows: int) -> tuple[LookedUp, torch.Tensor]:
    """Meta tensors in the shapes that the embedding tables return for ``rows`` rows."""

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(rows, *shape, device="meta")

    attended = {p.sequence.name for p in attended_sequences(schema)} if inputs.target_attention else set()
    pooled = {f.name: empty(f.embedding_dim) for f in schema.sparse_features if f.name not in attended}
    sequences = {
        name: (empty(schema.feature(name).max_length, schema.feature(name).embedding_dim), empty())
        for name in attended
    }
    return LookedUp(pooled, sequences), empty(sum(feature.num_numbers for feature in schema.dense_features))
