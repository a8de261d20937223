"""The law is found from its own losses, its best size is the least of a search, few points are refused."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy.optimize import minimize

from harness.evaluation.statistics.power_law import PowerLaw, PowerLawFit, why_no_fit

LAW = PowerLaw(E=0.01, A=20.0, alpha=0.5, B=3.8, beta=0.35)
SIZES, ROWS = [0.3e6, 1e6, 3e6, 1e7], [1e5, 3e5, 1e6, 3e6]


def points(sizes=SIZES, rows=ROWS) -> tuple[np.ndarray, np.ndarray]:
    size, row = np.meshgrid(sizes, rows, indexing="ij")
    return size.ravel(), row.ravel()


def test_losses_without_noise_give_their_law_back():
    size, rows = points()
    found = PowerLawFit(size, rows).fit(LAW.loss(size, rows))
    assert astuple(found) == pytest.approx(astuple(LAW), rel=1e-4)


def test_a_run_that_failed_to_learn_hardly_bends_the_law_where_least_squares_would():
    size, rows = points()
    loss = LAW.loss(size, rows)
    loss[5] *= 2
    found = PowerLawFit(size, rows).fit(loss)
    assert (found.alpha, found.beta) == pytest.approx((LAW.alpha, LAW.beta), rel=0.1)

    # Least squares in logarithms, by a search of the exponents: far off.
    def squares(free: np.ndarray) -> float:
        law = PowerLaw(
            np.exp(free[0]),
            np.exp(free[1]) * 1e6 ** free[2],
            free[2],
            np.exp(free[3]) * 5e5 ** free[4],
            free[4],
        )
        return float(np.sum((np.log(law.loss(size, rows)) - np.log(loss)) ** 2))

    begin = [np.log(0.01), np.log(0.02), 0.5, np.log(0.04), 0.35]
    plain = minimize(squares, begin, method="Nelder-Mead", options={"maxiter": 20_000, "maxfev": 20_000}).x
    assert abs(plain[2] - LAW.alpha) > 3 * abs(found.alpha - LAW.alpha)


def test_the_best_size_is_the_least_of_a_search_at_every_compute():
    for compute in (1e11, 1e13):
        sizes = np.geomspace(1e3, 1e9, 200_001)
        searched = sizes[np.argmin(LAW.loss(sizes, compute / 3 / sizes))]
        assert LAW.best_size(compute) == pytest.approx(searched, rel=1e-4)
        assert LAW.size_for(compute / 3 / searched) == pytest.approx(searched, rel=1e-3)
    growth = np.log10(LAW.best_size(1e13) / LAW.best_size(1e12))
    assert growth == pytest.approx(LAW.size_share)


@pytest.mark.parametrize(
    ("sizes", "rows", "says"),
    [
        (SIZES[:2], ROWS, "2 sizes and 4 numbers of rows; a fit needs 3 of both"),
        (SIZES, ROWS[:1], "4 sizes and 1 numbers of rows; a fit needs 3 of both"),
        (SIZES[:3], ROWS[:3], ""),
    ],
)
def test_too_few_sizes_or_rows_are_refused(sizes, rows, says):
    size, row = points(sizes, rows)
    assert why_no_fit(size, row, LAW.loss(size, row)) == says


def test_fewer_points_than_parameters_and_losses_below_the_oracle_are_refused():
    size, rows = np.array([1e6, 2e6, 3e6, 3e6]), np.array([1e5, 2e5, 3e5, 1e5])
    assert why_no_fit(size, rows, LAW.loss(size, rows)) == "4 points for 5 parameters"
    size, rows = points()
    assert why_no_fit(size, rows, LAW.loss(size, rows) - 0.1) == "a loss is not above 0"


def test_a_size_off_every_scale_is_its_end_and_no_error():
    flat = PowerLaw(E=1e-9, A=1e-6, alpha=0.01, B=1e6, beta=1.0)
    assert 0 < flat.size_for(1e6) < 1e-20
    assert np.isfinite(flat.loss(np.array([flat.size_for(1e6)]), np.array([1e6]))).all()
