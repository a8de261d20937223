"""What the manifest says of numbers is what preparation does with them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from datasets.prepare.encode import normalized
from datasets.schema import Feature
from harness.export.manifest import _normalization

VALUES = [-1e9, -3.5, -0.2, 0.0, 0.7, 12.0, 1e9]
LEARNED = {"mean": 0.4, "std": 1.7}


@pytest.mark.parametrize(
    ("kind", "constants"),
    [("standard", LEARNED), ("log1p", LEARNED), ("none", None), ("log1p", None), ("standard", None)],
)
def test_a_formula_gives_the_prepared_number_of_negative_and_extreme_values_too(kind, constants):
    feature = Feature(name="price", kind="numeric", group="item", normalization=kind)
    prepared: Any = SimpleNamespace(
        schema=SimpleNamespace(dense_features=[feature]),
        manifest={"normalization": {} if constants is None else {"price": constants}},
    )
    stated = _normalization(prepared)["price"]
    assert stated["kind"] == kind
    names = {"sign": np.sign, "log1p": np.log1p, "clip_": np.clip, "abs": np.abs, "x": np.array(VALUES)}
    formula = stated["formula"].replace("clip(", "clip_(")  # beside the number `clip`
    expected = eval(formula, names | {name: stated.get(name) for name in ("mean", "std", "clip")})
    found = normalized(feature, constants, pl.Series("price", [*VALUES, None]))
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-6)
    assert found[-1] == stated["missing"] == 0


def test_the_formula_of_log1p_is_counted_by_hand():
    feature = Feature(name="price", kind="numeric", group="item", normalization="log1p")
    [found] = normalized(feature, LEARNED, pl.Series("price", [-3.5]))
    assert found == pytest.approx((-math.log(4.5) - 0.4) / 1.7)
