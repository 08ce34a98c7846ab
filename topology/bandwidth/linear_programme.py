"""The linear programmes of the ring packings, solved by HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Optimum:
    """The most there is, how it is reached, and which limits bind."""

    value: float
    solution: NDArray[np.float64]
    binding: NDArray[np.bool_]


def maximise(
    gain: NDArray[np.float64], loads: NDArray[np.float64], limits: NDArray[np.float64], balances: NDArray[np.float64] | None = None
) -> Optimum:
    """Maximise gain x with loads x <= limits, balances x = 0, x >= 0. Raises ArithmeticError where there is no optimum."""
    from scipy.optimize import linprog  # 50 MB and 0.3 s, which a node agent without an NVLink mesh never needs

    equal = None if balances is None else np.zeros(len(balances))
    solved = linprog(-gain, A_ub=loads, b_ub=limits, A_eq=balances, b_eq=equal, method="highs")
    if solved.status != 0 or solved.fun is None or solved.x is None:
        raise ArithmeticError(f"ring packing found no optimum: {solved.message}")
    return Optimum(float(-solved.fun), np.asarray(solved.x), np.asarray(solved.ineqlin.marginals) < -1e-9)
