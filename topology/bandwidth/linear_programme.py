"""Linear programmes of the ring packings, solved by HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Optimum:
    """The maximum, a solution that reaches it, and which limits bind in it."""

    value: float
    solution: NDArray[np.float64]
    binding: NDArray[np.bool_]


def maximise(
    gain: NDArray[np.float64], loads: NDArray[np.float64], limits: NDArray[np.float64], balances: NDArray[np.float64] | None = None
) -> Optimum:
    """Maximise gain x with loads x <= limits, balances x = 0 and x >= 0. Raises ArithmeticError where there is no optimum."""
    from scipy.optimize import linprog  # imported here: it costs 50 MB and 0.3 s, and an agent needs it only on an NVLink mesh

    equal = None if balances is None else np.zeros(len(balances))
    solved = linprog(-gain, A_ub=loads, b_ub=limits, A_eq=balances, b_eq=equal, method="highs")
    if solved.status != 0 or solved.fun is None or solved.x is None:
        raise ArithmeticError(f"ring packing found no optimum: {solved.message}")
    return Optimum(float(-solved.fun), np.asarray(solved.x), np.asarray(solved.ineqlin.marginals) < -1e-9)
