"""Fitting on a label store: features are collected once, and only with the labels' models."""

import pytest
import torch

import hf_autojudge.training.features as features_module
from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS
from hf_autojudge.labeling import LabelledPrompt, LabelStore, Mismatch
from hf_autojudge.training import fit_store, mlp
from tests.utils import make_pair


@pytest.fixture
def pair():
    target, draft = make_pair("llama")
    target.config.name_or_path, draft.config.name_or_path = "org/target", "org/draft"
    return target, draft


def fill(folder, **settings):
    """A label store of random labels."""
    store = LabelStore(
        folder, {"method": "test", "target": "org/target", "draft": "org/draft", "task": "t", **settings}
    )
    generator = torch.Generator().manual_seed(0)
    for index in range(12):
        response = torch.randint(3, 40, (8,), generator=generator).tolist()
        mismatches = [
            Mismatch(i, t, t if i % 2 else 41, important=t < 20, importance=0.75 if t < 20 else 0.25)
            for i, t in enumerate(response)
        ]
        store.add(index, LabelledPrompt([5, 6 + index], mismatches, response, response))
    return store


def test_a_second_fit_runs_no_model(pair, tmp_path, monkeypatch):
    fill(tmp_path)
    first = fit_store(*pair, tmp_path, num_assistant_tokens=4, validation_share=0.3)
    config = first.head.config
    assert (config.target, config.draft, config.task, config.num_candidate_tokens) == (
        "org/target",
        "org/draft",
        "t",
        4,
    )
    assert config.features == list(FEATURES[:2]) and config.thresholds and config.draft_hidden_size == 32
    monkeypatch.setattr(features_module, "_read", None)
    monkeypatch.setattr(mlp, "MAX_ROUNDS", 3)
    for features in (FEATURES, ("scalar.margin", "previous.draft"), SCALARS):
        for hidden_size in (0, 3):
            again = fit_store(
                *pair, tmp_path, features=features, validation_share=0.3, hidden_size=hidden_size, soft_labels=True
            )
            assert again.features == features and again.head.config.hidden_size == hidden_size
    assert fit_store(*pair, tmp_path, validation_share=0.3).auc == first.auc


def test_new_labels_are_collected_too(pair, tmp_path):
    store = fill(tmp_path)
    n = fit_store(*pair, tmp_path, validation_share=0.3)
    store.add(12, store.labelled()[0])
    more = fit_store(*pair, tmp_path, validation_share=0.3)
    assert more.n_train + more.n_validation == n.n_train + n.n_validation + 8


@pytest.mark.parametrize("draft", [None, "org/draft"])
def test_a_target_alone(pair, tmp_path, draft):
    """Labels made without a draft, or with one that the head does not read."""
    fill(tmp_path, draft=draft)
    result = fit_store(pair[0], None, tmp_path, validation_share=0.3)
    assert result.features == ("draft_token.target",) and result.head.config.draft == draft
    scalars = fit_store(pair[0], None, tmp_path, validation_share=0.3, features=["scalar.rank"])
    assert scalars.head.reads == {"target_logits"}
    with pytest.raises(ValueError, match=r"asked for \['scalar.kl'\]"):
        fit_store(pair[0], None, tmp_path, features=["scalar.kl"])
    both = fit_store(*pair, tmp_path, validation_share=0.3)
    assert both.features == FEATURES[:2] and both.head.config.draft == "org/draft"


def test_only_what_is_asked_for(pair, tmp_path):
    fill(tmp_path / "labels")
    folder = tmp_path / "elsewhere"
    options = {"folder": folder, "collect": ["previous.target"], "validation_share": 0.3}
    result = fit_store(*pair, tmp_path / "labels", features=["previous.target"], **options)
    assert result.features == ("previous.target",) and list(folder.glob("*.safetensors"))
    assert result.head.config.target_hidden_size == 32 and not (tmp_path / "labels" / "features").exists()


def test_other_models_are_refused(pair, tmp_path):
    fill(tmp_path)
    pair[0].config.name_or_path = "org/other"
    with pytest.raises(ValueError, match="made with the target 'org/target'; got 'org/other'"):
        fit_store(*pair, tmp_path)
