"""L2-regularized logistic regression over a path of penalties, in torch, on any device.

Preconditioned L-BFGS (Nocedal, "Updating quasi-Newton matrices with limited storage", 1980). The preconditioner
`P = mean(s) * Z'Z / n + I / (c n)`, where s = p (1 - p), is the Hessian with s replaced by its mean. With its Cholesky
factor `P = L L'`, the optimization variable is `v = L' w`. Each penalty starts from the previous solution and then
takes about ten steps of one pass over the matrix each. The preconditioner does not change the minimum.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch

from hf_autojudge.training.feature_matrix import FeatureMatrix

MEMORY = 20  # steps that L-BFGS remembers
STRIPS = 8  # blocks of rows in which the Gram matrix is computed
Evaluate = Callable[[torch.Tensor], tuple[float, torch.Tensor, float]]
Step = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # a step, its change of the gradient, 1 / their dot product


def logistic_path(
    matrix: FeatureMatrix,
    y: torch.Tensor,
    c_grid: Sequence[float],
    sample_weight: torch.Tensor | None = None,
    max_iter: int = 300,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Minimize `0.5 * |w|^2 + c * sum(weight * log-loss)`, the objective of scikit-learn's `LogisticRegression`, for
    each c. The bias is not penalized.

    The tolerance is 1e-5 (1e-9 in float64) on the gradient of the objective divided by `c * sum(weight)`, as in
    scikit-learn: for each of its components, and for its norm in the preconditioned variable. The fit also stops where
    rounding prevents further descent, and warns if the gradient is then larger than 1e-3.

    Args:
        matrix ([`FeatureMatrix`]): N rows of D standardized features, float32 or float64, the dtype of the arithmetic.
        y (`torch.Tensor` of shape `(N,)`): Labels in [0, 1]; values between 0 and 1 are soft labels.
        c_grid (`Sequence[float]`): Inverse strengths of the penalty. Fastest in ascending order, as each fit starts
            from the previous solution.
        sample_weight (`torch.Tensor` of shape `(N,)`, *optional*): Non-negative; defaults to ones.
        max_iter (`int`, *optional*, defaults to 300): Maximum number of L-BFGS steps for each c.

    Returns:
        For each c, weight of shape `(D,)` and bias of shape `()`, in the matrix's dtype.
    """
    _, first = next(matrix.blocks())
    dtype, device = first.dtype, first.device
    y = y.to(device, torch.float64)
    share = torch.ones_like(y) if sample_weight is None else sample_weight.to(device, torch.float64)
    total = float(share.sum())
    share = share / total
    gram = _gram(matrix, share)
    mean = float(share @ y)
    weight = first.new_zeros(matrix.width, dtype=torch.float64)
    bias = torch.tensor(math.log(mean / (1 - mean)), dtype=torch.float64, device=device)
    curvature = mean * (1 - mean)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    solutions = []
    for c in c_grid:
        penalty = 1 / (c * total)
        objective = _Objective(matrix, y, share, gram, penalty, curvature)
        v, error = _minimize(objective, objective.to_preconditioned(weight, bias), tolerance, max_iter, dtype)
        if error > 1e-3:
            warnings.warn(
                f"The fit with C = {c:.3g} stopped at a gradient of {error:.1e}, not at its minimum.", stacklevel=2
            )
        weight, bias = objective.from_preconditioned(v)
        curvature = max(objective.curvature, 1e-6)
        solutions.append((weight.to(dtype), bias.to(dtype)))
    return solutions


def _gram(matrix: FeatureMatrix, share: torch.Tensor) -> torch.Tensor:
    """The weighted mean of the rows' outer products, shape `(D, D)`. Only the lower triangle is computed."""
    _, first = next(matrix.blocks())
    gram = first.new_zeros(matrix.width, matrix.width)
    strip = -(-matrix.width // STRIPS)
    for rows, z in matrix.blocks(size=8192):
        weighted = z * share[rows, None].to(z.dtype)
        for start in range(0, matrix.width, strip):
            end = start + strip
            gram[start:end, :end].addmm_(weighted[:, start:end].T, z[:, :end])
    return gram.tril() + gram.tril(-1).T


class _Objective:
    """The mean loss plus the penalty, as a function of `v = (L' w, root * bias)`, with `root` the square root of the
    curvature (the mean of s). Float64, shape `(D + 1,)`."""

    def __init__(
        self,
        matrix: FeatureMatrix,
        y: torch.Tensor,
        share: torch.Tensor,
        gram: torch.Tensor,
        penalty: float,
        curvature: float,
    ) -> None:
        self.matrix, self.y, self.share, self.penalty = matrix, y, share, penalty
        preconditioner = gram * curvature
        # The Gram matrix of fewer rows than columns is singular; a ridge changes the preconditioner, not the minimum
        ridge = 10 * torch.finfo(gram.dtype).eps * preconditioner.diagonal().sum()
        preconditioner.diagonal().add_(penalty + ridge)
        self.factor = torch.linalg.cholesky(preconditioner)
        self.root = math.sqrt(curvature)
        self.curvature = curvature

    def to_preconditioned(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """v of a weight and bias."""
        inner = (self.factor.T @ weight.to(self.factor.dtype)).double()
        return torch.cat([inner, bias[None] * self.root])

    def from_preconditioned(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight and bias of v."""
        column = v[:-1, None].to(self.factor.dtype)
        return torch.linalg.solve_triangular(self.factor.T, column, upper=True)[:, 0].double(), v[-1] / self.root

    def __call__(self, v: torch.Tensor) -> tuple[float, torch.Tensor, float]:
        """The value, the gradient by v, and the size of the gradient that the tolerance applies to. Also sets
        `curvature` to the mean of s at v."""
        weight, bias = self.from_preconditioned(v)
        w, b = weight.to(self.factor.dtype), bias.to(self.factor.dtype)
        loss, at_bias, spread = torch.zeros(3, dtype=torch.float64, device=v.device)
        gradient = torch.zeros_like(weight)
        for rows, z in self.matrix.blocks():
            u = (z @ w + b).double()
            p, y, share = u.sigmoid(), self.y[rows], self.share[rows]
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


def _minimize(
    function: Evaluate, x: torch.Tensor, tolerance: float, max_iter: int, dtype: torch.dtype
) -> tuple[torch.Tensor, float]:
    """L-BFGS. `function` returns the value, the gradient and the gradient's size. Stops when that size is at most
    `tolerance`, or when rounding in `dtype` hides further descent. Returns the point and its gradient's size."""
    value, gradient, error = function(x)
    history: list[Step] = []
    for _ in range(max_iter):
        if error <= tolerance:
            break
        direction = _direction(gradient, history)
        slope = float(direction @ gradient)
        noise = torch.finfo(dtype).eps * abs(value)
        length = 1.0
        while True:
            at = function(x + length * direction)
            new_slope = float(direction @ at[1])
            # Where values differ by rounding only, the slope shows the descent (Hager and Zhang, "A new conjugate
            # gradient method with guaranteed descent and an efficient line search", 2005)
            if at[0] <= value + 1e-4 * length * slope or at[0] <= value + noise and abs(new_slope) <= 0.8 * -slope:
                break
            between = slope / (slope - new_slope) if new_slope > 0 else 0.5
            length *= min(max(between, 0.1), 0.7)
            if length < 1e-4:
                return x, error
        change = at[1] - gradient
        step = length * direction
        if (product := step @ change) > 0:
            history = [*history[1 - MEMORY :], (step, change, 1 / product)]
        x = x + step
        value, gradient, error = at
    return x, error


def _direction(gradient: torch.Tensor, history: list[Step]) -> torch.Tensor:
    """The two-loop recursion of L-BFGS."""
    d = -gradient
    factors = []
    for step, change, rho in reversed(history):
        factors.append(rho * (step @ d))
        d = d - factors[-1] * change
    if history:
        _, change, rho = history[-1]
        d = d / (rho * (change @ change))
    for (step, change, rho), factor in zip(history, reversed(factors), strict=True):
        d = d + step * (factor - rho * (change @ d))
    return d
