"""Features equal a slow reference of what a judge sees, in memory and on disk."""

import pytest
import torch

import hf_autojudge.training.features as features_module
from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS
from hf_autojudge.judges.distributions import distribution_scalars
from hf_autojudge.labeling import LabelledPrompt, Mismatch, find_important_tokens
from hf_autojudge.training import MismatchFeatures, collect_features
from hf_autojudge.training.feature_store import store_features
from tests.reference import run
from tests.utils import make_model, make_pair, same_outcome, some_prompts, unlike_pair


@pytest.fixture(scope="module")
def mined():
    target, draft = unlike_pair("llama")
    return list(find_important_tokens(target, draft, some_prompts(6), same_outcome, 14, eos_token_id=[2]))


def check(data, target, draft, labelled):
    """Compare every mismatch with a run of the whole sequence."""
    index = 0
    for prompt, item in enumerate(labelled):
        for m in item.mismatches:
            sequence = [*item.prompt, *item.response[: m.position], m.draft_token]
            logits = {}
            for name, model in (("target", target), ("draft", draft)):
                if model is not None:
                    logits[name], states = run(model, sequence)
                    assert torch.allclose(data.states[f"draft_token.{name}"][index], states[-1], atol=1e-4)
                    assert torch.allclose(data.states[f"previous.{name}"][index], states[-2], atol=1e-4)
            scalars = [name for name in data.states if name in SCALARS]
            before = [logits[name][-2:-1] if name in logits else None for name in ("target", "draft")]
            expected = distribution_scalars(scalars, torch.tensor([m.draft_token]), *before)[0]
            assert torch.allclose(torch.cat([data.states[name][index] for name in scalars]), expected, atol=1e-4)
            assert bool(data.important[index]) == m.important
            assert float(data.soft_labels[index]) == pytest.approx(m.importance)
            assert int(data.prompt[index]) == prompt
            index += 1
    assert index == len(data) > 0


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
@pytest.mark.parametrize("segment", [256, 5])
def test_features_are_what_a_judge_sees(architecture, segment, monkeypatch):
    monkeypatch.setattr(features_module, "SEGMENT", segment)
    target, draft = unlike_pair(architecture)
    labelled = list(find_important_tokens(target, draft, some_prompts(4), same_outcome, 14, eos_token_id=[2]))
    data = collect_features(target, draft, labelled)
    check(data, target, draft, labelled)
    assert tuple(data.states) == FEATURES + SCALARS and 0 < int(data.important.sum()) < len(data)


def test_records_of_other_kinds():
    """Important draft tokens that are in the response, unimportant ones that are not, several at one position, soft
    labels, a prompt without mismatches."""
    target, draft = make_pair("llama")
    response = [5, 9, 11, 7, 30]
    mismatches = [
        Mismatch(0, 5, 5, important=True),
        Mismatch(1, 9, 40, important=False, importance=0.3),
        Mismatch(1, 9, 41, important=True, importance=0.9),
        Mismatch(2, 11, 11, important=False),
        Mismatch(4, 30, 12, important=True),
        Mismatch(4, 30, 30, important=False),
    ]
    labelled = [
        LabelledPrompt([4, 8, 6], mismatches, response, response),
        LabelledPrompt([9], [], [], []),
        LabelledPrompt([7], mismatches[:2], response, response),
    ]
    check(collect_features(target, draft, labelled), target, draft, labelled)
    alone = collect_features(target, None, labelled)
    check(alone, target, None, labelled)
    assert [name for name in alone.states if name.endswith(".draft") or name == "scalar.kl"] == []
    with pytest.raises(ValueError, match=r"previous.draft.*without a draft"):
        collect_features(target, None, labelled, ["previous.draft"])
    with pytest.raises(ValueError, match="label some first"):
        collect_features(target, draft, [])


def test_vocabularies_of_other_sizes(mined):
    target, draft = make_model("llama", 32, 2, seed=3), make_model("llama", 32, 2, seed=4, vocab=40)
    got = collect_features(target, draft, mined, ["scalar.kl", "scalar.entropy"])
    assert got.matrix(["scalar.kl", "scalar.entropy"]).isfinite().all()


def test_one_pass_serves_all_draft_tokens_in_the_response(monkeypatch):
    target, _ = make_pair("llama")
    response = torch.randint(3, 40, (120,)).tolist()
    mismatches = [Mismatch(i, t, t, important=i % 7 == 0) for i, t in enumerate(response)]
    calls = []
    forward = features_module.DynamicRunner.forward
    monkeypatch.setattr(
        features_module.DynamicRunner, "forward", lambda self, *a, **k: (calls.append(1), forward(self, *a, **k))[1]
    )
    collect_features(target, None, [LabelledPrompt([3, 4], mismatches, response, response)])
    assert len(calls) == 1


def test_features_round_trip(mined, tmp_path):
    data = collect_features(*unlike_pair("llama"), mined)
    path = tmp_path / "features.safetensors"
    data.save(path)
    again = MismatchFeatures.load(path)
    assert torch.equal(data.matrix(FEATURES + SCALARS), again.matrix(FEATURES + SCALARS))
    assert torch.equal(data.important, again.important) and torch.equal(data.prompt, again.prompt)
    assert torch.equal(data.soft_labels, again.soft_labels)
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match="collect them again"):
        MismatchFeatures.load(path)


def concatenate(parts):
    return {name: torch.cat([part.states[name] for part in parts]) for name in parts[0].states}


def test_an_interrupted_collection_resumes(mined, tmp_path, monkeypatch):
    """Interrupted between shards, interrupted while writing one, and a shard of older labels."""
    target, draft = (model.bfloat16() for model in unlike_pair("llama"))
    whole = collect_features(target, draft, mined)
    assert whole.states["previous.target"].dtype == torch.bfloat16
    read, saved = [], []
    original = features_module._read
    monkeypatch.setattr(features_module, "_read", lambda *a: (read.append(a[1]), original(*a))[1])
    save = MismatchFeatures.save

    def interrupted_save(self, path, metadata=None):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(path)
        save(self, path, metadata)

    monkeypatch.setattr(MismatchFeatures, "save", interrupted_save)
    with pytest.raises(KeyboardInterrupt):
        store_features(target, draft, mined, tmp_path, shard_size=1)
    monkeypatch.setattr(MismatchFeatures, "save", save)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    first = sum(int(path.stem.split("-")[1]) - int(path.stem.split("-")[0]) for path in saved)
    read.clear()
    parts = store_features(target, draft, mined, tmp_path, shard_size=1)
    assert read == mined[first:] and len(parts) > 2
    stored = concatenate(parts)
    assert all(torch.equal(stored[name], whole.states[name]) for name in whole.states)
    assert torch.equal(torch.cat([part.prompt for part in parts]), whole.prompt)
    read.clear()
    store_features(target, draft, mined, tmp_path)
    assert read == []

    saved[1].write_bytes(saved[1].read_bytes()[:100])
    store_features(target, draft, mined, tmp_path, shard_size=1)
    start = int(saved[1].stem.split("-")[0])
    assert read == mined[start:]
    read.clear()
    changed = [*mined[:-1], LabelledPrompt(mined[-1].prompt, mined[-1].mismatches[:-1], [], mined[-1].response)]
    store_features(target, draft, changed, tmp_path, shard_size=1)
    assert read[-1] == changed[-1] and len(read) < len(mined)


def test_a_folder_of_other_models_is_refused(mined, tmp_path):
    target, draft = unlike_pair("llama")
    names = ["draft_token.target", "scalar.rank"]
    store_features(target, draft, mined, tmp_path, names)
    (only,) = store_features(target, draft, mined, tmp_path)
    assert sorted(only.states) == sorted(names)
    with pytest.raises(ValueError, match="previous.draft was not collected"):
        store_features(target, draft, mined, tmp_path, ["previous.draft"])
    with pytest.raises(ValueError, match="target_dtype was 'float32' and is now 'bfloat16'"):
        store_features(target.bfloat16(), draft, mined, tmp_path)
