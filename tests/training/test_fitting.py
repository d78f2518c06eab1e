"""The fit equals scikit-learn's, and data that cannot be fitted are refused."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from hf_autojudge.training import MismatchFeatures, fit_head, mlp
from hf_autojudge.training.feature_matrix import FeatureMatrix, Standardizer, read_blocks
from hf_autojudge.training.fitting import C_GRID, split_prompts
from hf_autojudge.training.logistic import logistic_path
from tests.training.utils import make_data


@pytest.mark.parametrize("c", [1e-4, 0.03, 1.0, 100.0])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_scikit_learn(c, balanced, dtype):
    data = make_data()
    x = data.matrix(["draft_token.draft", "draft_token.target"])
    x[:, 3] = 2.5  # a constant column
    y = data.important
    scaler = StandardScaler().fit(x.double().numpy())
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=20000, class_weight="balanced" if balanced else None)
    theirs.fit(scaler.transform(x.double().numpy()), y.numpy())
    expected = theirs.predict_proba(scaler.transform(x.double().numpy()))[:, 1]
    standardizer = Standardizer.fit(x.to(dtype).split(100))
    matrix = FeatureMatrix(lambda: iter([x.to(dtype)]), len(x), standardizer, hold=True)
    share = y.double().mean()
    weights = torch.where(y, 0.5 / share, 0.5 / (1 - share)).to(dtype) if balanced else None
    ((weight, bias),) = logistic_path(matrix, y, [c], weights)
    ours = (standardizer(x.to(dtype)) @ weight + bias).sigmoid().numpy()
    assert np.abs(ours - expected).max() < 1e-3


def test_the_chosen_head_agrees_with_scikit_learn():
    """End to end: split, standardise, grid, head; and the head's own arithmetic."""
    data = make_data(seed=1)
    result = fit_head(data, seed=4, validation_share=0.2)
    held_out = split_prompts(data.prompt, 0.2, 4)
    x = data.matrix(result.features).double().numpy()
    y = data.important.numpy()
    scaler = StandardScaler().fit(x[~held_out])
    aucs, losses = {}, {}
    for c, row in zip(C_GRID, result.grid, strict=True):
        model = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(scaler.transform(x[~held_out]), y[~held_out])
        importance = model.predict_proba(scaler.transform(x[held_out]))[:, 1]
        aucs[c], losses[c] = roc_auc_score(y[held_out], importance), log_loss(y[held_out], importance)
        assert row["validation_auc"] == pytest.approx(aucs[c], abs=1e-3)
        assert row["validation_log_loss"] == pytest.approx(losses[c], abs=1e-3)
    near = [c for c in C_GRID if aucs[c] >= max(aucs.values()) - 0.002]
    assert result.c == min(near, key=losses.get) and len(near) > 1
    assert result.auc == pytest.approx(aucs[result.c], abs=1e-3)
    model = LogisticRegression(C=result.c, tol=1e-10, max_iter=20000).fit(scaler.transform(x[~held_out]), y[~held_out])
    expected = model.predict_proba(scaler.transform(x))[:, 1]
    with torch.no_grad():
        ours = result.head(data.matrix(result.features)).sigmoid().numpy()
    assert np.abs(ours - expected).max() < 1e-3
    assert torch.allclose(result.validation_scores, torch.from_numpy(ours)[held_out], atol=1e-5)
    assert result.log_loss == pytest.approx(log_loss(y[held_out], ours[held_out]), abs=1e-5)
    assert result.brier_score == pytest.approx(brier_score_loss(y[held_out], ours[held_out]), abs=1e-5)


def test_ties_in_auc_do_not_take_the_strongest_penalty():
    """One feature: every penalty ranks alike, and only some say how probable a label is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 1, generator=generator)
    important = torch.rand(4000, generator=generator) < (2 * x[:, 0] - 1).sigmoid()
    data = MismatchFeatures({"draft_token.target": x}, important, torch.arange(4000) // 10)
    result = fit_head(data, validation_share=0.3)
    aucs = [row["validation_auc"] for row in result.grid]
    assert max(aucs) - min(aucs) < 1e-4 and result.c > 1e-3
    with torch.no_grad():
        assert torch.allclose(result.head(x), 2 * x[:, 0] - 1, atol=0.4)


@pytest.mark.parametrize("options", [{}, {"soft_labels": True}, {"hidden_size": 3}])
def test_balanced_importance_is_a_probability_in_the_data(options, monkeypatch):
    """The balanced fit, shifted by the log-odds of the share; the threshold is shifted alike."""
    monkeypatch.setattr(mlp, "MAX_ROUNDS", 3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6000, 2, generator=generator)
    important = torch.rand(6000, generator=generator) < (x[:, 0] - 3).sigmoid()
    soft = important.float() * 0.8 + 0.1
    data = MismatchFeatures({"draft_token.target": x}, important, torch.arange(6000) // 10, soft)
    result = fit_head(data, c_grid=[1.0], validation_share=0.5, balanced=True, **options)
    y = soft if options.get("soft_labels") else important.float()
    share = y[~split_prompts(data.prompt, 0.5, 0)].mean().item()
    assert result.head.threshold == pytest.approx(share, rel=1e-5)
    assert result.log_loss == pytest.approx(
        log_loss(result.validation_important, result.validation_scores.double()), abs=1e-5
    )
    if "hidden_size" not in options:  # three rounds of a network are no fit
        assert result.validation_scores.mean() == pytest.approx(share, rel=0.15)
    if not options:
        plain = fit_head(data, c_grid=[1.0], validation_share=0.5)
        assert result.log_loss == pytest.approx(plain.log_loss, abs=0.003)
        assert plain.head.threshold == 0.5
    assert fit_head(data, c_grid=[1.0], balanced=True, threshold=0.4, **options).head.threshold == 0.4


@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_soft_label_equals_two_weighted_rows(c, balanced):
    """In scikit-learn, a row of soft label s is a positive row of weight s and a negative one of weight 1 - s."""
    data = make_data()
    generator = torch.Generator().manual_seed(5)
    soft = (data.important.float() + 0.6 * torch.rand(len(data), generator=generator) - 0.3).clamp(0, 1)
    weight = torch.rand(len(data), generator=generator)
    data = MismatchFeatures(data.states, data.important, data.prompt, soft)
    result = fit_head(
        data, c_grid=[c], balanced=balanced, soft_labels=True, sample_weight=weight, seed=1, validation_share=0.2
    )
    train = ~split_prompts(data.prompt, 0.2, 1)
    x = data.matrix(result.features).double()
    z = torch.from_numpy(StandardScaler().fit(x[train].numpy()).transform(x.numpy()))
    y, w = soft[train].double(), weight[train].double()
    twice = torch.cat([w * y, w * (1 - y)])
    labels = torch.cat([torch.ones_like(y), torch.zeros_like(y)])
    if balanced:
        twice *= torch.where(labels > 0, 0.5 * w.sum() / (w * y).sum(), 0.5 * w.sum() / (w * (1 - y)).sum())
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=20000)
    theirs.fit(torch.cat([z[train], z[train]]).numpy(), labels.numpy(), sample_weight=twice.numpy())
    shift = math.log((w @ y) / (w @ (1 - y))) if balanced else 0.0
    expected = 1 / (1 + np.exp(-theirs.decision_function(z[~train].numpy()) - shift))
    assert np.abs(result.validation_scores.numpy() - expected).max() < 1e-3
    assert result.auc == pytest.approx(roc_auc_score(data.important[~train], expected), abs=2e-3)


@pytest.mark.parametrize("c", [1e-6, 1e-2, 100.0])
def test_fewer_rows_than_columns(c):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 200, generator=generator) + 3 * torch.randn(60, 1, generator=generator)
    y = torch.rand(60, generator=generator) < 0.4
    standardizer = Standardizer.fit([x])
    matrix = FeatureMatrix(lambda: iter([x]), len(x), standardizer, hold=True)
    ((weight, bias),) = logistic_path(matrix, y, [c])
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(standardizer(x).double().numpy(), y.numpy())
    ours = (standardizer(x) @ weight + bias).sigmoid().numpy()
    assert np.abs(ours - theirs.predict_proba(standardizer(x).double().numpy())[:, 1]).max() < 1e-3


def test_a_path_equals_its_single_fits():
    """The data are nearly separable, so the curvature changes much along the path."""
    data = make_data(n=1500)
    x = data.matrix(["draft_token.target"])
    y = x[:, :3].sum(1) + 0.3 * torch.randn(len(x), generator=torch.Generator().manual_seed(0)) > 12
    matrix = FeatureMatrix(lambda: iter([x]), len(x), Standardizer.fit([x]), hold=True)
    for c, (weight, bias) in zip(C_GRID, logistic_path(matrix, y, C_GRID), strict=True):
        ((alone, its_bias),) = logistic_path(matrix, y, [c])
        assert torch.allclose(weight, alone, rtol=1e-2, atol=1e-3), c
        assert torch.allclose(bias, its_bias, rtol=1e-2, atol=1e-3), c


def test_a_fit_that_does_not_converge_warns():
    data = make_data()
    x = data.matrix(["draft_token.target"])
    matrix = FeatureMatrix(lambda: iter([x]), len(x), Standardizer.fit([x]), hold=True)
    with pytest.warns(UserWarning, match="C = 100 stopped at a gradient"):
        logistic_path(matrix, data.important, [100.0], max_iter=1)


@pytest.mark.parametrize("c", [1e-3, 1.0])
def test_aucs_with_ties(c):
    """One feature of ten values, so that many scores are equal."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(10, (300, 1), generator=generator).float()
    important = torch.rand(300, generator=generator) < 0.1 + 0.05 * x[:, 0]
    data = MismatchFeatures({"draft_token.target": x}, important, torch.arange(300) // 10)
    result = fit_head(data, c_grid=[c], validation_share=0.3)
    train = ~split_prompts(data.prompt, 0.3, 0)
    scores = result.validation_scores.round(decimals=5)  # equal logits can differ in the last bit of their sigmoid
    assert len(scores.unique()) == 10
    auc = pytest.approx(roc_auc_score(result.validation_important, scores), abs=1e-12)
    train_auc = pytest.approx(roc_auc_score(important[train], x[train, 0]), abs=1e-12)
    loss = pytest.approx(log_loss(result.validation_important, scores.double()), abs=1e-4)
    (row,) = result.grid
    assert result.auc == auc and row.pop("validation_log_loss") == loss == result.log_loss
    assert row == {"c": c, "train_auc": train_auc, "validation_auc": auc}


def test_prompts_are_not_split():
    prompt = torch.randint(30, (500,), generator=torch.Generator().manual_seed(0))
    held_out = split_prompts(prompt, 0.1, seed=0)
    assert not set(prompt[held_out].tolist()) & set(prompt[~held_out].tolist())
    assert len(prompt[held_out].unique()) == 3
    assert torch.equal(held_out, split_prompts(prompt, 0.1, seed=0))
    assert not torch.equal(held_out, split_prompts(prompt, 0.1, seed=1))


def test_one_class_is_refused():
    data = make_data()
    for value in (True, False):
        one = MismatchFeatures(data.states, torch.full_like(data.important, value), data.prompt)
        with pytest.raises(ValueError, match="label more prompts"):
            fit_head(one)
    with pytest.raises(ValueError, match="2 prompts"):
        fit_head(MismatchFeatures(data.states, data.important, torch.zeros_like(data.prompt)))
    with pytest.raises(ValueError, match="asked for"):
        fit_head(data, features=["kl"])
    with pytest.raises(ValueError, match="asked for"):
        fit_head([], features=["kl"])
    with pytest.raises(ValueError, match="negative"):
        fit_head(data, sample_weight=-torch.ones(len(data)))


@pytest.mark.parametrize("side", ["training", "validation"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", [{}, {"hold": False}, {"hidden_size": 3}])
def test_features_that_are_not_finite_are_refused(side, value, options):
    data = make_data()
    held_out = split_prompts(data.prompt, 0.1, 0)
    rows = (held_out if side == "validation" else ~held_out).nonzero()[:3, 0]
    data.states["draft_token.target"] = data.states["draft_token.target"].half()
    data.states["draft_token.target"][rows, 1:3] = value
    with pytest.raises(ValueError, match="infinite: 'draft_token.target' in 3 of 600 mismatches"):
        fit_head(data, **options)
    assert fit_head(data, features=["draft_token.draft"]).auc > 0  # features that are not read may be anything


def test_large_features_are_not_refused():
    """Values that float32 holds, although it does not hold their sum."""
    data = make_data()
    data.states["kl"] = torch.full((len(data), 1), 1e37)
    x = [data.states[name] for name in ("draft_token.target", "kl")]
    held_out = split_prompts(data.prompt, 0.1, 0)
    blocks = read_blocks([data], ["draft_token.target", "kl"], ~held_out, "cpu", torch.float32, check=True)
    assert torch.equal(torch.cat(list(blocks)), torch.cat(x, dim=-1)[~held_out])


def weights_of(data, important, unimportant):
    return torch.where(data.important, important, unimportant)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("hidden_size", [0, 3])
@pytest.mark.parametrize(
    ("soft", "weight", "message"),
    [
        (math.nan, None, "600 of 600 soft labels"),
        (math.inf, None, "600 of 600 soft labels"),
        (1.5, None, "600 of 600 soft labels"),
        (0.0, None, "sum to 0 important"),
        (1.0, None, "and 0 unimportant"),
        (0.3, lambda data: torch.full((len(data),), math.nan), "600 of 600 weights"),
        (0.3, lambda data: torch.full((len(data),), math.inf), "600 of 600 weights"),
        (0.3, lambda data: torch.zeros(len(data)), "sum to 0 important and 0 unimportant"),
        (0.3, lambda data: torch.ones(len(data) - 1), r"each of 600 mismatches; its shape is \(599,\)"),
        (0.3, lambda data: torch.ones(len(data), 1), r"its shape is \(600, 1\)"),
        (None, lambda data: weights_of(data, 0.0, 1.0), "sum to 0 important"),
        (None, lambda data: weights_of(data, 2.0, 0.0), "and 0 unimportant"),
    ],
)
def test_labels_and_weights_that_cannot_be_fitted_are_refused(soft, weight, message, balanced, hidden_size):
    data = make_data()
    if soft is not None:
        data = MismatchFeatures(data.states, data.important, data.prompt, torch.full((len(data),), soft))
    options = {"soft_labels": soft is not None, "balanced": balanced, "hidden_size": hidden_size}
    with pytest.raises(ValueError, match=message):
        fit_head(data, sample_weight=None if weight is None else weight(data), **options)


@pytest.mark.parametrize("grid", [[], [0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_grids_that_cannot_be_fitted_are_refused(grid):
    with pytest.raises(ValueError, match="c_grid needs one value or more, each positive and finite"):
        fit_head(make_data(), c_grid=grid)


def test_a_target_alone():
    data = make_data()
    alone = {name: states for name, states in data.states.items() if name.endswith(".target")}
    result = fit_head(MismatchFeatures(alone, data.important, data.prompt))
    assert result.features == ("draft_token.target",) and result.head.reads == {"target_hidden"}
    assert (result.head.config.draft_hidden_size, result.head.config.target_hidden_size) == (0, 10)


def test_other_features_and_config():
    result = fit_head(
        make_data(), features=("previous.target",), target="org/t", num_candidate_tokens=7, task="sums", threshold=0.2
    )
    config = result.head.config
    assert (config.features, config.target, config.num_candidate_tokens, config.task) == (
        ["previous.target"],
        "org/t",
        7,
        "sums",
    )
    assert result.head.threshold == 0.2 and result.metrics()["n_train"] == result.n_train
