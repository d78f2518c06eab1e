"""A matrix read in every pass equals one in memory, and standardizing loses no precision."""

from functools import partial

import pytest
import torch

from hf_autojudge.training import MismatchFeatures, feature_matrix, fit_head, fitting
from hf_autojudge.training.feature_matrix import FeatureMatrix, Standardizer, read_blocks
from tests.training.utils import make_data


def split(data, sizes):
    """The same mismatches in several parts, some of them empty."""
    states = {name: values.split(sizes) for name, values in data.states.items()}
    fields = [values.split(sizes) for values in (data.important, data.prompt, data.soft_labels)]
    return [
        MismatchFeatures({name: values[i] for name, values in states.items()}, *(field[i] for field in fields))
        for i in range(len(sizes))
    ]


@pytest.mark.parametrize("block", [1, 70, 4096])
def test_moments_of_large_means(block):
    """Means of a thousand deviations and more, of values that float32 holds exactly."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-8, 9, (500, 5), generator=generator) / 8 + torch.tensor([0.0, 1e3, -1e3, 1e5, 7.0])
    x[:, 4] = 7.3  # a constant column
    found = Standardizer.fit(x.split(block))
    assert torch.allclose(found.mean.double(), x.double().mean(0), rtol=1e-7, atol=1e-7)
    assert torch.allclose(found.scale[:4].double(), x.double().std(0, correction=0)[:4], rtol=1e-5)
    assert found.scale[4] == 1
    exact = (x.double() - x.double().mean(0)) / x.double().std(0, correction=0)
    assert torch.allclose(found(x)[:, :3].double(), exact[:, :3], atol=2e-4)


@pytest.mark.parametrize("hold", [True, False])
def test_blocks_and_scores(hold, monkeypatch):
    monkeypatch.setattr(feature_matrix, "BLOCK", 40)
    data = make_data(n=50)
    names = ["previous.draft", "draft_token.target"]
    selected = torch.rand(50, generator=torch.Generator().manual_seed(1)) < 0.6
    read = partial(read_blocks, split(data, [7, 0, 30, 13]), names, selected, "cpu", torch.float32)
    standardizer = Standardizer.fit(read())
    found = FeatureMatrix(read, int(selected.sum()), standardizer, hold)
    expected = standardizer(data.matrix(names)[selected])
    blocks = list(found.blocks())
    assert torch.equal(torch.cat([z for _, z in blocks]), expected) and len(blocks) > 5
    assert all(torch.equal(z, expected[rows]) for rows, z in blocks)
    weights = torch.randn(16, 3)
    assert torch.allclose(found.scores(weights, torch.ones(3)), expected @ weights + 1, atol=1e-5)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_streamed_shards_give_the_same_head(tmp_path, stored, monkeypatch):
    monkeypatch.setattr(feature_matrix, "BLOCK", 1000)
    data = make_data()
    data = MismatchFeatures({k: v.to(stored) for k, v in data.states.items()}, data.important, data.prompt)
    parts = split(data, [200, 1, 0, 399])
    for i, part in enumerate(parts):
        part.save(tmp_path / f"{i}.safetensors")
    mapped = [MismatchFeatures.load(tmp_path / f"{i}.safetensors") for i in range(len(parts))]
    whole, streamed = fit_head(data, hold=True, seed=2), fit_head(mapped, hold=False, seed=2)
    assert streamed.c == whole.c and streamed.auc == pytest.approx(whole.auc, abs=1e-6)
    assert torch.allclose(streamed.validation_scores, whole.validation_scores, atol=1e-5)
    assert torch.equal(streamed.validation_important, whole.validation_important)
    assert torch.allclose(streamed.head.mean, whole.head.mean, atol=1e-6)


def test_holding_depends_on_the_free_memory(monkeypatch):
    held = []
    original = FeatureMatrix.__init__
    monkeypatch.setattr(FeatureMatrix, "__init__", lambda self, *a: (held.append(a[-1]), original(self, *a))[1])
    for free, expected in ((600 * 16 * 4 / 0.79, True), (600 * 16 * 4 / 0.81, False)):
        monkeypatch.setattr(fitting, "free_memory", lambda _, free=free: free)
        held.clear()
        fit_head(make_data(), c_grid=[1.0])
        assert held == [expected] * 2
    assert feature_matrix.free_memory("cpu") > 2**20
