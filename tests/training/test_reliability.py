"""Log-loss, Brier score and reliability curve equal scikit-learn's; the choice asks for both order and probability."""

import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as their_log_loss

from hf_autojudge.training import fit_head, plot_reliability
from hf_autojudge.training.reliability import best_calibrated, brier_score, log_loss, reliability_curve
from tests.training.utils import make_data


@pytest.fixture
def scored():
    """Logits and labels; no two logits are equal."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1000, generator=generator) * 2 - 1
    return logits, torch.rand(1000, generator=generator) < logits.sigmoid() ** 1.5


def test_equal_scikit_learn(scored):
    logits, important = scored
    importance = logits.sigmoid()
    assert log_loss(logits, important) == pytest.approx(their_log_loss(important, importance.double()), abs=1e-6)
    assert brier_score(importance, important) == pytest.approx(brier_score_loss(important, importance), abs=1e-6)
    rows = reliability_curve(importance, important)
    shares, means = calibration_curve(important, importance.double(), n_bins=10, strategy="quantile")
    assert [row["importance"] for row in rows] == pytest.approx(means, abs=1e-9)
    assert [row["important"] for row in rows] == pytest.approx(shares, abs=1e-9)
    assert [row["count"] for row in rows] == [100] * 10


def test_few_mismatches():
    rows = reliability_curve(torch.tensor([0.3, 0.1, 0.1]), torch.tensor([True, False, True]))
    assert [row["count"] for row in rows] == [1, 1, 1] and rows[2]["important"] == 1.0
    assert log_loss(torch.tensor([200.0]), torch.tensor([False])) == 200.0  # where the importance rounds to 1


@pytest.mark.parametrize(
    ("aucs", "losses", "chosen"),
    [
        ([0.9, 0.9, 0.9], [0.7, 0.4, 0.5], 1),
        ([0.9, 0.9], [0.4, 0.4], 0),
        ([0.897, 0.8981, 0.9], [0.1, 0.4, 0.5], 1),  # the first is too far below
        ([0.9], [0.4], 0),
    ],
)
def test_best_calibrated(aucs, losses, chosen):
    assert best_calibrated(aucs, losses) == chosen


@pytest.mark.parametrize("from_metrics", [False, True])
def test_plot(tmp_path, from_metrics):
    result = fit_head(make_data())
    rows = result.metrics()["reliability"]
    assert sum(row["count"] for row in rows) == result.n_validation
    plot_reliability(result.metrics() if from_metrics else result, tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="no reliability curve"):
        plot_reliability({"auc": 0.5}, tmp_path / "nothing.png")
