r"""Loss as a function of size and rows, :math:`L(F, D) = E + A F^{-\alpha} + B D^{-\beta}`, and its fit.

The law and the way to fit it are those of Hoffmann et al., "Training Compute-Optimal Large Language Models"
(2022, https://arxiv.org/abs/2203.15556, section 3.3): Huber's loss of the difference in logarithms,

.. math:: \sum_i \mathrm{Huber}_\delta \left( \log L(F_i, D_i) - \log L_i \right),

from several starts. It is linear beyond :math:`\delta` = 1% (theirs is 0.1%: their losses vary less), so that
a run that failed to learn does not bend the law. SciPy's ``least_squares`` minimises it.

One pass over D rows costs :math:`C = 3 F D` FLOPs, a forward pass and twice that backward. The least loss at
C is where :math:`F^* = G (C/3)^{\beta / (\alpha + \beta)}`, with
:math:`G = (\alpha A / \beta B)^{1 / (\alpha + \beta)}`, and :math:`D^* = C / 3 F^*`. There
a percent more of either saves as much: :math:`\alpha A F^{-\alpha} = \beta B D^{-\beta}`.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]

NUM_PARAMETERS = 5
LEAST_VALUES = 3  # of sizes, and of rows: a term and a floor bend only from the third on
HUBER = 0.01
PASSES = 3  # FLOPs of training a sample over those of a forward pass
EXPONENTS = (0.01, 3.0)  # where exponents are looked for
_OFF_SCALE = 50.0  # a logarithm
_LEAST_SHARE = 1e-6  # of the least loss: what E is called 0 below
_STARTS = tuple(product((0.1, 0.6), (0.2, 0.8), (0.2, 0.8)))  # E's share of the least loss, alpha, beta


@dataclass(frozen=True)
class PowerLaw:
    """L = E + A / F^alpha + B / D^beta."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def loss(self, size: Array, rows: Array) -> Array:
        return self.E + self.A * size**-self.alpha + self.B * rows**-self.beta

    @property
    def size_share(self) -> float:
        """The exponent with which the best size grows with compute; the best rows have what is left of 1."""
        return self.beta / (self.alpha + self.beta)

    def best_size(self, compute: float) -> float:
        """The size F whose one pass over compute / 3 F rows has the least loss.

        >>> round(PowerLaw(E=0.1, A=2.0, alpha=0.5, B=2.0, beta=0.5).best_size(3e12))
        1000000
        """
        budget = math.log(compute / PASSES)
        return _bounded((self._log_ratio + self.beta * budget) / (self.alpha + self.beta))

    def size_for(self, rows: float) -> float:
        """The size F of which these rows are the best number: more compute would go into both.

        >>> round(PowerLaw(E=0.1, A=2.0, alpha=0.5, B=2.0, beta=0.5).size_for(1e6))
        1000000
        """
        return _bounded((self._log_ratio + self.beta * math.log(rows)) / self.alpha)

    def rows_for(self, size: float) -> float:
        """The rows of which this size is the best one.

        >>> round(PowerLaw(E=0.1, A=2.0, alpha=0.5, B=2.0, beta=0.5).rows_for(1e6))
        1000000
        """
        return _bounded((self.alpha * math.log(size) - self._log_ratio) / self.beta)

    @property
    def _log_ratio(self) -> float:
        return math.log(self.alpha * self.A) - math.log(self.beta * self.B)


def _bounded(log_size: float) -> float:
    """The size or rows; where an exponent is near 0 they may be off every scale, and then are its end."""
    return math.exp(min(max(log_size, -_OFF_SCALE), _OFF_SCALE))


def why_no_fit(size: Array, rows: Array, loss: Array) -> str:
    """Why the law cannot be fitted to these points, (N,) each; empty where it can."""
    num_sizes, num_rows = len(set(size.tolist())), len(set(rows.tolist()))
    if num_sizes < LEAST_VALUES or num_rows < LEAST_VALUES:
        return f"{num_sizes} sizes and {num_rows} numbers of rows; a fit needs {LEAST_VALUES} of both"
    if len(loss) <= NUM_PARAMETERS:
        return f"{len(loss)} points for {NUM_PARAMETERS} parameters"
    if not (np.isfinite(loss).all() and (loss > 0).all()):
        return "a loss is not above 0"
    return ""


class PowerLawFit:
    """Fits the law to losses at the same N points, anew for every draw of the losses.

    Args:
        size, rows: (N,), positive; `why_no_fit` must have no objection.
    """

    def __init__(self, size: Array, rows: Array) -> None:
        self._middle = np.log(size).mean(), np.log(rows).mean()
        self._x = np.log(size) - self._middle[0]
        self._y = np.log(rows) - self._middle[1]

    def fit(self, loss: Array, start: PowerLaw | None = None) -> PowerLaw:
        """The law with the least sum of Huber's losses from a start, or from eight of them.

        Args:
            loss: (N,), positive.
        """
        target = np.log(loss)
        starts = [self._centred(start)] if start else [self._start(loss, *shape) for shape in _STARTS]
        low, high = self._bounds(loss)
        found = [
            least_squares(
                self._residuals,
                np.clip(each, low + 1e-9, high - 1e-9),
                self._jacobian,
                bounds=(low, high),
                loss="huber",
                f_scale=HUBER,
                x_scale="jac",
                max_nfev=200,
                args=(target,),
            )
            for each in starts
        ]
        return self._law(min(found, key=lambda each: float(each.cost)).x)

    def _bounds(self, loss: Array) -> tuple[Array, Array]:
        least, largest = math.log(loss.min()), math.log(loss.max())
        floor, ceiling = least + math.log(_LEAST_SHARE), largest + 1
        low = [floor, floor, EXPONENTS[0], floor, EXPONENTS[0]]
        return np.array(low), np.array([largest, ceiling, EXPONENTS[1], ceiling, EXPONENTS[1]])

    def _start(self, loss: Array, share: float, alpha: float, beta: float) -> Array:
        """E a share of the least loss, the rest of the middle one in equal halves."""
        half = (np.median(loss) - share * loss.min()) / 2
        return np.array([math.log(share * loss.min()), math.log(half), alpha, math.log(half), beta])

    # Inside, A and B are logarithms of their terms at the middle of the points, which are far less tied to
    # the exponents than A and B themselves.

    def _centred(self, law: PowerLaw) -> Array:
        floor, a, alpha, b, beta = astuple(law)
        x, y = self._middle
        return np.array([math.log(floor), math.log(a) - alpha * x, alpha, math.log(b) - beta * y, beta])

    def _law(self, centred: Array) -> PowerLaw:
        floor, a, alpha, b, beta = centred.tolist()
        x, y = self._middle
        return PowerLaw(math.exp(floor), math.exp(a + alpha * x), alpha, math.exp(b + beta * y), beta)

    def _terms(self, centred: Array) -> tuple[float, Array, Array]:
        floor, a, alpha, b, beta = centred
        return math.exp(floor), np.exp(a - alpha * self._x), np.exp(b - beta * self._y)

    def _residuals(self, centred: Array, target: Array) -> Array:
        floor, size_term, rows_term = self._terms(centred)
        return np.log(floor + size_term + rows_term) - target

    def _jacobian(self, centred: Array, target: Array) -> Array:
        floor, size_term, rows_term = self._terms(centred)
        columns = [
            np.full_like(target, floor),
            size_term,
            -self._x * size_term,
            rows_term,
            -self._y * rows_term,
        ]
        return np.stack(columns, axis=1) / (floor + size_term + rows_term)[:, None]
