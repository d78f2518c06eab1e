"""L2 logistic regression over a path of penalties, in torch, on any device.

L-BFGS (Nocedal, "Updating quasi-Newton matrices with limited storage", 1980) in coordinates in which the objective is
nearly round: with `P = mean(s) * Z'Z / n + I / (c n)`, where s = p (1 - p), the Hessian up to the spread of s, and its
Cholesky factor `P = L L'`, the unknown is `v = L' w`. Every penalty then takes about ten steps, started from the
solution before it, and one pass over the rows each. The preconditioner only chooses coordinates: the solution is the
objective's own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch

from hf_autojudge.training.feature_matrix import Rows

MEMORY = 20  # pairs that L-BFGS keeps
STRIPS = 8  # of the Gram matrix
Evaluate = Callable[[torch.Tensor], tuple[float, torch.Tensor, float]]


def logistic_path(
    rows: Rows,
    y: torch.Tensor,
    c_grid: Sequence[float],
    sample_weight: torch.Tensor | None = None,
    max_iter: int = 300,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Minimise `0.5 * |w|^2 + c * sum(weight * log-loss)`, the objective of scikit-learn's `LogisticRegression`, for
    each c. The bias is not penalised.

    A solution's gradient, of the objective divided by `c * sum(weight)` as scikit-learn's, is at most 1e-5 in every
    component and 1e-5 long in the coordinates above (1e-9 in float64), or as small as rounding lets it be.

    Args:
        rows ([`Rows`]): N rows of D standardised features; float32 or float64 decides the arithmetic.
        y (`torch.Tensor` of shape `(N,)`): Labels in [0, 1]; between them, soft ones.
        c_grid (`Sequence[float]`): Inverse strengths of the penalty, best rising: each starts from the one before.
        sample_weight (`torch.Tensor` of shape `(N,)`, *optional*): Not negative; defaults to ones.
        max_iter (`int`, *optional*, defaults to 300): Limit of L-BFGS steps for each c; a warning tells if it is
            reached.

    Returns:
        For each c, weight of shape `(D,)` and bias of shape `()`, in the rows' dtype.
    """
    _, first = next(rows.blocks())
    dtype, device = first.dtype, first.device
    y = y.to(device, torch.float64)
    share = torch.ones_like(y) if sample_weight is None else sample_weight.to(device, torch.float64)
    total = float(share.sum())
    share = share / total
    gram = _gram(rows, share)
    mean = float(share @ y)
    weight = first.new_zeros(rows.width, dtype=torch.float64)
    bias = torch.tensor(math.log(mean / (1 - mean)), dtype=torch.float64, device=device)
    curvature = mean * (1 - mean)
    exact = dtype == torch.float64
    solutions = []
    for c in c_grid:
        penalty = 1 / (c * total)
        objective = _Objective(rows, y, share, gram, penalty, curvature)
        v, error = _minimise(objective, objective.enter(weight, bias), 1e-9 if exact else 1e-5, max_iter, dtype)
        if error > 1e-3:
            warnings.warn(
                f"The fit with C = {c:.3g} stopped at a gradient of {error:.1e}, not at its minimum.", stacklevel=2
            )
        weight, bias = objective.leave(v)
        curvature = max(objective.curvature, 1e-6)
        solutions.append((weight.to(dtype), bias.to(dtype)))
    return solutions


def _gram(rows: Rows, share: torch.Tensor) -> torch.Tensor:
    """The weighted mean of the rows' outer products: `(D, D)`. Only its lower half is computed, in strips."""
    _, first = next(rows.blocks())
    gram = first.new_zeros(rows.width, rows.width)
    strip = -(-rows.width // STRIPS)
    for part, z in rows.blocks(size=8192):
        weighted = z * share[part, None].to(z.dtype)
        for start in range(0, rows.width, strip):
            end = start + strip
            gram[start:end, :end].addmm_(weighted[:, start:end].T, z[:, :end])
    return gram.tril() + gram.tril(-1).T


class _Objective:
    """The mean loss and penalty, as a function of `v = (L' w, root * b)`, float64."""

    def __init__(
        self,
        rows: Rows,
        y: torch.Tensor,
        share: torch.Tensor,
        gram: torch.Tensor,
        penalty: float,
        curvature: float,
    ) -> None:
        self.rows, self.y, self.share, self.penalty = rows, y, share, penalty
        matrix = gram * curvature
        # A gram of fewer rows than columns is singular, and rounding could make it worse; any ridge does no harm
        ridge = 10 * torch.finfo(gram.dtype).eps * matrix.diagonal().sum()
        matrix.diagonal().add_(penalty + ridge)
        self.factor = torch.linalg.cholesky(matrix)
        self.root = math.sqrt(curvature)
        self.curvature = curvature

    def enter(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """From the problem's coordinates to these."""
        inner = (self.factor.T @ weight.to(self.factor.dtype)).double()
        return torch.cat([inner, bias[None] * self.root])

    def leave(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Back."""
        column = v[:-1, None].to(self.factor.dtype)
        return torch.linalg.solve_triangular(self.factor.T, column, upper=True)[:, 0].double(), v[-1] / self.root

    def __call__(self, v: torch.Tensor) -> tuple[float, torch.Tensor, float]:
        weight, bias = self.leave(v)
        w, b = weight.to(self.factor.dtype), bias.to(self.factor.dtype)
        loss, at_bias, spread = torch.zeros(3, dtype=torch.float64, device=v.device)
        gradient = torch.zeros_like(weight)
        for part, z in self.rows.blocks():
            u = (z @ w + b).double()
            p, y, share = u.sigmoid(), self.y[part], self.share[part]
            loss = loss + share @ torch.nn.functional.binary_cross_entropy_with_logits(u, y, reduction="none")
            residual = share * (p - y)
            at_bias = at_bias + residual.sum()
            spread = spread + share @ (p * (1 - p))
            gradient += (z.T @ residual.to(z.dtype)).double()
        gradient += self.penalty * weight
        loss = loss + 0.5 * self.penalty * weight @ weight
        inner = torch.linalg.solve_triangular(self.factor, gradient[:, None].to(self.factor.dtype), upper=False)
        g = torch.cat([inner[:, 0].double(), at_bias[None] / self.root])
        error = torch.stack([g.norm(), gradient.abs().max(), at_bias.abs()]).max()
        value, size, self.curvature = torch.stack([loss, error, spread]).tolist()
        return value, g, size


def _minimise(
    function: Evaluate, x: torch.Tensor, tolerance: float, max_iter: int, dtype: torch.dtype
) -> tuple[torch.Tensor, float]:
    """L-BFGS. `function` gives value, gradient and the gradient's size; stops when that is at most `tolerance`, or
    when rounding in `dtype` hides any further descent. Returns the point and its gradient's size."""
    value, gradient, error = function(x)
    pairs: list[
        tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ] = []  # step, change of the gradient, 1 / their product
    for _ in range(max_iter):
        if error <= tolerance:
            break
        direction = _direction(gradient, pairs)
        slope = float(direction @ gradient)
        noise = torch.finfo(dtype).eps * abs(value)
        length = 1.0
        while True:
            at = function(x + length * direction)
            new_slope = float(direction @ at[1])
            # Where values differ by rounding only, the slope still tells (Hager and Zhang, "A new conjugate gradient
            # method with guaranteed descent and an efficient line search", 2005)
            if at[0] <= value + 1e-4 * length * slope or at[0] <= value + noise and abs(new_slope) <= 0.8 * -slope:
                break
            between = slope / (slope - new_slope) if new_slope > 0 else 0.5
            length *= min(max(between, 0.1), 0.7)
            if length < 1e-4:
                return x, error
        change = at[1] - gradient
        step = length * direction
        if (product := step @ change) > 0:
            pairs = [*pairs[1 - MEMORY :], (step, change, 1 / product)]
        x = x + step
        value, gradient, error = at
    return x, error


def _direction(gradient: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    d = -gradient
    factors = []
    for step, change, rho in reversed(pairs):
        factors.append(rho * (step @ d))
        d = d - factors[-1] * change
    if pairs:
        _, change, rho = pairs[-1]
        d = d / (rho * (change @ change))
    for (step, change, rho), factor in zip(pairs, reversed(factors), strict=True):
        d = d + step * (factor - rho * (change @ d))
    return d
