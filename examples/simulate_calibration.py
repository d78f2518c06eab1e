"""How often calibration, on synthetic outcomes, chooses a setting whose true drop in accuracy is above the limit: at
most in 1 - confidence of the runs, up to the Monte-Carlo error (two standard errors).

python examples/simulate_calibration.py --limit 0.02
"""

from __future__ import annotations

import argparse
import math
from itertools import product

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

from hf_autojudge.training import choose_setting

RUNS, ACCURACY, CORRELATION = 500, 0.85, 0.8  # the baseline's accuracy; of settings' outcomes on one prompt


def simulate(n: int, confidence: float, limit: float, settings: int, step: bool, seed: int = 0) -> tuple[float, float]:
    """The shares of runs with a true drop above the limit, and with any supported setting. True drops rise from 0 to
    twice the limit, evenly or with a step to just above the limit, which is the hardest case."""
    drops = limit * np.linspace(0, 2, settings)
    drops[np.argmax(drops > limit)] = 1.001 * limit
    drops[drops <= limit] *= 0.1 if step else 1
    gains = 0.003 + drops / 4  # wrong answers that a setting makes right
    random, wrong, supported = np.random.default_rng(seed), 0, 0
    for _ in range(RUNS):
        right = random.random(n) < ACCURACY
        shared, own = random.normal(size=(1, n)), random.normal(size=(settings, n))
        u = norm.cdf(CORRELATION**0.5 * shared + (1 - CORRELATION) ** 0.5 * own)
        answers = np.where(right, u >= (drops + gains)[:, None] / ACCURACY, u < gains[:, None] / (1 - ACCURACY))
        correct = {str(i): answer for i, answer in enumerate(answers.tolist())}
        setting = choose_setting(correct, right.tolist(), limit, confidence)[0]
        supported += setting is not None
        wrong += setting is not None and drops[int(setting)] > limit
    return wrong / RUNS, supported / RUNS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=0.03, help="max_accuracy_drop")
    parser.add_argument("--settings", type=int, default=10)
    parser.add_argument("--even", action="store_true", help="drops that rise evenly; by default with a step")
    args = parser.parse_args()
    table = Table("prompts", "confidence", "drop above the limit", "2 standard errors", "supported")
    for n, confidence in product((100, 200, 300, 500), (0.8, 0.9, 0.95)):
        wrong, supported = simulate(n, confidence, args.limit, args.settings, not args.even)
        error = 2 * math.sqrt(confidence * (1 - confidence) / RUNS)
        table.add_row(str(n), str(confidence), f"{wrong:.1%}", f"{error:.1%}", f"{supported:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
