"""The fit equals scikit-learn's, and is honest about its data."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from hf_autojudge.labeling import MismatchFeatures
from hf_autojudge.training import fit
from hf_autojudge.training.auc import roc_auc
from hf_autojudge.training.fit import C_GRID, split_prompts
from hf_autojudge.training.logistic import logistic_path
from hf_autojudge.training.rows import Rows, Standardiser


def make_data(n=600, draft=6, target=10, seed=0, prompts=40):
    generator = torch.Generator().manual_seed(seed)
    names = {
        "draft_token.draft": draft,
        "draft_token.target": target,
        "previous.draft": draft,
        "previous.target": target,
    }
    states = {name: torch.randn(n, size, generator=generator) * 3 + 1 for name, size in names.items()}
    x = torch.cat([states["draft_token.draft"], states["draft_token.target"]], dim=-1)
    w = torch.randn(x.shape[1], generator=generator)
    noise = torch.randn(n, generator=generator) * 4
    important = x @ w + noise > (x @ w).quantile(0.7)
    return MismatchFeatures(states, important, torch.randint(prompts, (n,), generator=generator))


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
    standardise = Standardiser.fit(x.to(dtype).split(100))
    rows = Rows(lambda: iter([x.to(dtype)]), len(x), standardise, hold=True)
    share = y.double().mean()
    weights = torch.where(y, 0.5 / share, 0.5 / (1 - share)).to(dtype) if balanced else None
    ((weight, bias),) = logistic_path(rows, y, [c], weights)
    ours = (standardise(x.to(dtype)) @ weight + bias).sigmoid().numpy()
    assert np.abs(ours - expected).max() < 1e-3


def test_the_chosen_head_agrees_with_scikit_learn():
    """End to end: split, standardise, grid, head; and the head's own arithmetic."""
    data = make_data(seed=1)
    result = fit(data, seed=4, validation_share=0.2)
    held_out = split_prompts(data.prompt, 0.2, 4)
    x = data.matrix(result.features).double().numpy()
    y = data.important.numpy()
    scaler = StandardScaler().fit(x[~held_out])
    aucs = {}
    for c in C_GRID:
        model = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(scaler.transform(x[~held_out]), y[~held_out])
        aucs[c] = roc_auc_score(y[held_out], model.predict_proba(scaler.transform(x[held_out]))[:, 1])
    assert result.auc == pytest.approx(max(aucs.values()), abs=1e-3)
    assert aucs[result.c] == pytest.approx(max(aucs.values()), abs=1e-3)
    model = LogisticRegression(C=result.c, tol=1e-10, max_iter=20000).fit(scaler.transform(x[~held_out]), y[~held_out])
    expected = model.predict_proba(scaler.transform(x))[:, 1]
    with torch.no_grad():
        ours = result.head(data.matrix(result.features)).sigmoid().numpy()
    assert np.abs(ours - expected).max() < 1e-3
    assert torch.allclose(result.validation_scores, torch.from_numpy(ours)[held_out], atol=1e-5)


def test_prompts_are_not_split():
    prompt = torch.randint(30, (500,), generator=torch.Generator().manual_seed(0))
    held_out = split_prompts(prompt, 0.1, seed=0)
    assert not set(prompt[held_out].tolist()) & set(prompt[~held_out].tolist())
    assert len(prompt[held_out].unique()) == 3
    assert torch.equal(held_out, split_prompts(prompt, 0.1, seed=0))
    assert not torch.equal(held_out, split_prompts(prompt, 0.1, seed=1))


def test_roc_auc_with_ties():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(10, (300,), generator=generator).float()
    labels = torch.rand(300, generator=generator) < 0.3
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_one_class_is_refused():
    data = make_data()
    for value in (True, False):
        one = MismatchFeatures(data.states, torch.full_like(data.important, value), data.prompt)
        with pytest.raises(ValueError, match="label more prompts"):
            fit(one)
    with pytest.raises(ValueError, match="2 prompts"):
        fit(MismatchFeatures(data.states, data.important, torch.zeros_like(data.prompt)))
    with pytest.raises(ValueError, match="asked for"):
        fit(data, features=["kl"])


def test_other_features_and_config():
    result = fit(make_data(), features=("previous.target",), target="org/t", window=7, task="sums", threshold=0.2)
    config = result.head.config
    assert (config.features, config.target, config.window, config.task) == (["previous.target"], "org/t", 7, "sums")
    assert result.head.threshold == 0.2 and result.metrics()["n_train"] == result.n_train
