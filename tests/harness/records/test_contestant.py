"""A row's series, size and ratio: fields of its spec and record, or what an older record's name states."""

from __future__ import annotations

from fractions import Fraction

import pytest

from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.spec import Budget, RunSpec
from tests.harness.small_runs import small_spec

OLD = {
    **{"kind": "model", "status": "finished", "suite": "s", "architecture": "rankmixer", "dataset": "d"},
    **{"seed": 0, "spec_hash": "0", "spec": {"seed": 0}, "started_at": "2026-01-01"},
}
BUDGET = Budget(kind="flops_per_sample", target=3e6, miss=0.01)


@pytest.mark.parametrize(
    ("variant", "budget", "series", "size", "ratio"),
    [
        ("smoe-1/4", None, "smoe", "", Fraction(1, 4)),
        ("3M", BUDGET, "", "3M", None),
        ("smoe-1/4-3M", BUDGET, "smoe", "3M", Fraction(1, 4)),
        ("17M", BUDGET, "17M", "", None),  # of another budget: no size, but its own name
        ("3M", None, "3M", "", None),
        ("", BUDGET, "", "", None),
    ],
)
def test_an_older_record_has_what_its_name_and_budget_state(variant, budget, series, size, ratio):
    old = OLD | {"variant": variant, "budget": budget and budget.model_dump()}
    who = Record.model_validate(old).contestant
    assert (who.variant, who.series, who.size, who.ratio) == (variant, series, size, ratio)


def test_a_record_with_the_fields_is_not_read_by_its_name():
    who = Record.model_validate(OLD | {"variant": "a-1/4", "series": "a-1/4", "size": "", "ratio": None})
    assert (who.contestant.series, who.contestant.ratio) == ("a-1/4", None)
    assert who.contestant == Contestant("rankmixer", "a-1/4")  # a name tells contestants apart


def test_the_hash_of_a_spec_leaves_out_fields_that_its_name_states(prepared):
    spec = small_spec(prepared).model_copy(update={"variant": "smoe-1/4"})
    stated = spec.model_copy(update={"series": "smoe", "ratio": Fraction(1, 4)})
    old = spec.model_dump(mode="json", exclude={"series", "size", "ratio"})
    assert RunSpec.model_validate(old).hash == stated.hash
    assert spec.model_copy(update={"series": "other", "ratio": Fraction(1, 4)}).hash != stated.hash
    assert RunSpec.model_validate(stated.model_dump(mode="json")) == stated
