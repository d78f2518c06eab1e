"""Is a head's importance a probability? Log-loss, Brier score and reliability curve, and the choice by log-loss."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from hf_autojudge.provenance import replacing

if TYPE_CHECKING:
    from hf_autojudge.training.fitting import FitResult

AUC_TOLERANCE = 0.002
BINS = 10
EDGE = 1e-4  # the plot's smallest importance, and its largest one's distance from 1
TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


def best_calibrated(aucs: Sequence[float], log_losses: Sequence[float]) -> int:
    """Of the fits whose AUC is within [`AUC_TOLERANCE`] of the best, the index of the one with the smallest log-loss;
    among equals, the first.

    The AUC knows only the order of the scores, and many penalties give nearly the same order. The log-loss also asks
    whether the scores are probabilities.
    """
    near = [i for i, auc in enumerate(aucs) if auc >= max(aucs) - AUC_TOLERANCE]
    return min(near, key=lambda i: log_losses[i])


def log_loss(logits: torch.Tensor, important: torch.Tensor) -> float:
    """Mean negative log-likelihood of labels, in nats, from the logits of their importance; both of shape `(N,)`."""
    return float(binary_cross_entropy_with_logits(logits.cpu().double(), important.cpu().double()))


def brier_score(importance: torch.Tensor, important: torch.Tensor) -> float:
    """Mean squared difference between importance and label (0 or 1), both of shape `(N,)`."""
    return float((importance.double() - important.double()).square().mean())


def reliability_curve(importance: torch.Tensor, important: torch.Tensor) -> list[dict[str, float]]:
    """Mismatches in ascending order of importance, in ten bins of equal count (fewer for fewer than ten mismatches).

    Args:
        importance (`torch.FloatTensor` of shape `(N,)`): The head's.
        important (`torch.BoolTensor` of shape `(N,)`): The labels.

    Returns:
        For each bin `importance` (mean), `important` (share) and `count`. For a calibrated head the first two are
        equal, up to chance.
    """
    order = importance.argsort(stable=True)
    bins = zip(*(x[order].double().tensor_split(min(BINS, len(x))) for x in (importance, important)), strict=True)
    return [{"importance": float(x.mean()), "important": float(y.mean()), "count": len(x)} for x, y in bins]


def plot_reliability(result: FitResult | Mapping[str, Any], path: str | os.PathLike) -> None:
    """Plot the share of important mismatches against their mean importance, with 95% intervals (Wilson's), and the
    curve on which the points of a calibrated head lie. The importance is shown on a scale of log-odds, since many
    mismatches are close to 0 or 1.

    Args:
        result ([`FitResult`] or `Mapping`): A fit, or its `metrics()` as in `fit.json`.
        path (`str` or `os.PathLike`): A `.png`, `.svg` or `.pdf` file; written atomically.

    Raises:
        ValueError: If the metrics hold no reliability curve.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.stats import binomtest

    metrics = result if isinstance(result, Mapping) else result.metrics()
    if not metrics.get("reliability"):
        raise ValueError("The metrics hold no reliability curve; fit the head again.")
    rows = metrics["reliability"]
    x = [min(max(row["importance"], EDGE), 1 - EDGE) for row in rows]
    y = [row["important"] for row in rows]
    tests = [binomtest(round(row["important"] * row["count"]), row["count"]) for row in rows]
    intervals = [test.proportion_ci(method="wilson") for test in tests]
    below = [max(0.0, share - interval.low) for share, interval in zip(y, intervals, strict=True)]
    above = [max(0.0, interval.high - share) for share, interval in zip(y, intervals, strict=True)]

    figure = Figure(figsize=(5, 3.4), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xscale("logit")
    ticks = [tick for tick in TICKS if min(x) / 10 < tick < 1 - (1 - max(x)) / 10]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    curve = torch.linspace(-16, 16, 500).double().sigmoid().tolist()
    axes.plot(curve, curve, color="#9a9a9a", linewidth=1, zorder=1, label="calibrated")
    axes.errorbar(x, y, yerr=[below, above], fmt="o", color="#0072b2", markersize=5, elinewidth=1.2, label="measured")
    axes.set_xlim(min(*x, 0.1) / 2, 1 - (1 - max(*x, 0.9)) / 2)
    axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.set_xlabel("mean importance")
    axes.set_ylabel("share that is important")
    axes.set_title(
        f"{metrics['n_validation']} validation mismatches in {len(rows)} bins\n"
        f"log-loss {metrics['log_loss']:.3f}, Brier score {metrics['brier_score']:.3f}",
        loc="left",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as beside:
        figure.savefig(beside)
