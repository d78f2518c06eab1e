"""The head with a hidden layer: deterministic, better than a linear head where needed, unchanged by saving."""

import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.training import MismatchFeatures, fit_head, mlp
from tests.training.utils import make_data


def exclusive_or(n=2000, scale=1.0):
    """Important where exactly one of two columns is positive."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=generator)
    important = (x[:, 0] > 0) != (x[:, 1] > 0)
    prompt = torch.randint(60, (n,), generator=generator)
    return MismatchFeatures({"draft_token.target": x * scale + 3}, important, prompt, important.float() * 0.8 + 0.1)


@pytest.mark.slow
def test_a_problem_that_is_not_linear(tmp_path):
    data = exclusive_or()
    assert fit_head(data, validation_share=0.3).auc < 0.65
    result = fit_head(data, validation_share=0.3, hidden_size=16)
    assert result.auc > 0.98 and result.c is None and result.metrics()["c"] is None
    best = max(row["validation_auc"] for row in result.grid)
    near = [row for row in result.grid if row["validation_auc"] >= best - 0.002]
    assert result.log_loss == min(row["validation_log_loss"] for row in near)
    assert result.auc in [row["validation_auc"] for row in near if row["validation_log_loss"] == result.log_loss]
    assert result.log_loss == pytest.approx(log_loss(result.validation_important, result.validation_scores), abs=1e-5)
    result.head.save_pretrained(tmp_path)
    again = AutoJudgeHead.from_pretrained(tmp_path)
    x = data.matrix(["draft_token.target"])
    assert torch.equal(again(x), result.head(x))
    scores = again(x).sigmoid()
    assert all((scores - score).abs().min() < 1e-5 for score in result.validation_scores)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_few_rows_are_trained_on_for_enough_steps(seed):
    """An epoch of few rows is few steps. The true labels are linear here."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(5200, 20, generator=generator), torch.randn(5200, generator=generator)
    important = x[:, :5].sum(1) + 0.7 * noise > 0
    prompt = torch.randint(20, (200,), generator=generator)
    data = MismatchFeatures({"draft_token.target": x[:200]}, important[:200], prompt)
    results = [fit_head(data, validation_share=0.2, hidden_size=size, seed=seed) for size in (0, 32)]
    with torch.no_grad():
        line, curve = (roc_auc_score(important[200:], result.head(x[200:])) for result in results)
    assert curve > line - 0.03
    epochs = [row["epoch"] for row in results[1].grid]
    assert epochs[0] > 1 and len({b - a for a, b in zip(epochs, epochs[1:], strict=False)}) == 1


def test_the_seed_decides(monkeypatch):
    monkeypatch.setattr(mlp, "MAX_ROUNDS", 3)
    torch.manual_seed(1)
    one = fit_head(make_data(), hidden_size=5, seed=3)
    torch.manual_seed(2)
    two, other = fit_head(make_data(), hidden_size=5, seed=3), fit_head(make_data(), hidden_size=5, seed=4)
    assert torch.equal(one.head.hidden.weight, two.head.hidden.weight) and one.grid == two.grid
    assert not torch.equal(one.head.hidden.weight, other.head.hidden.weight)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"balanced": True}, {"soft_labels": True}, {"hold": False}])
def test_options(options):
    data = exclusive_or()
    result = fit_head(data, validation_share=0.3, hidden_size=16, **options)
    assert result.auc > 0.95
    assert result.auc == pytest.approx(roc_auc_score(result.validation_important, result.validation_scores), abs=1e-4)
    if "soft_labels" in options:  # no label is above 0.9
        plain = fit_head(data, validation_share=0.3, hidden_size=16)
        assert result.validation_scores.max() < plain.validation_scores.max()


@pytest.mark.slow
def test_mismatches_of_weight_zero_do_not_count():
    data = exclusive_or()
    weights = (torch.rand(len(data), generator=torch.Generator().manual_seed(1)) < 0.5).float()
    soft = torch.where(weights > 0, data.important.float(), 1 - data.important.float())
    wrong = MismatchFeatures(data.states, data.important, data.prompt, soft)
    options = {"validation_share": 0.3, "hidden_size": 16, "soft_labels": True}
    assert fit_head(wrong, sample_weight=weights, **options).auc > 0.95 > 0.7 > fit_head(wrong, **options).auc
