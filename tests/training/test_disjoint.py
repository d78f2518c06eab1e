"""Validation prompts are not test prompts."""

import pytest

from hf_autojudge.training import check_disjoint, disjoint
from hf_autojudge.training.disjoint import calibrated_on, prompt_digests


def test_shared_prompts_are_counted(task, tokenizer):
    samples = task.load("test", None)
    check_disjoint(samples[:3], samples[3:], task, tokenizer)
    check_disjoint([], samples, task, tokenizer)
    # the prompt counts, not the sample
    other = [samples[1] | {"answer": "another"}, {"ids": [1, 2]}, samples[1]]
    with pytest.raises(ValueError, match="2 of 3 test prompts are also validation prompts"):
        check_disjoint(samples[:3], other, task, tokenizer)


def test_digests_know_where_a_token_ends(task, tokenizer):
    digests = prompt_digests([{"ids": [1, 23]}, {"ids": [12, 3]}, {"ids": [1, 2, 3]}], task, tokenizer)
    assert len(set(digests)) == 3 and {len(digest) for digest in digests} == {16}


def test_a_judge_from_the_hub_tells_what_it_was_calibrated_on(head, tmp_path, monkeypatch):
    """Its repository is read at the judge's commit; a folder and a repository without a report tell nothing."""
    (tmp_path / "report.json").write_text('{"validation_prompts": ["a", "b"]}')
    asked = []

    def cached_file(repo_id, name, revision, **silent):
        asked.append((repo_id, name, revision, *silent.values()))
        return str(tmp_path / "report.json") if repo_id == "org/judge" else None

    monkeypatch.setattr(disjoint, "cached_file", cached_file)
    monkeypatch.setattr(head, "name_or_path", "org/judge")
    monkeypatch.setattr(head.config, "_commit_hash", "abc", raising=False)
    assert calibrated_on(tmp_path, head) == ["a", "b"]
    assert asked == [("org/judge", "calibration.json", "abc", False, False)]
    monkeypatch.setattr(head, "name_or_path", "org/other")
    assert calibrated_on(tmp_path / "none", head) == []
    (tmp_path / "calibration.json").write_text('{"validation_prompts": ["c"]}')
    monkeypatch.setattr(head, "name_or_path", "")
    assert calibrated_on(tmp_path, head) == ["c"] and len(asked) == 2
