"""The draft length: the fastest of all settings, counted as one by one, kept in the head."""

import pytest
import torch

from hf_autojudge import AutoJudgeHead, TopKRule
from hf_autojudge.decoding.candidates import DraftLength
from hf_autojudge.judges import AutoJudgeConfig
from hf_autojudge.training import tune_draft_length, tuning


def test_the_fastest_setting_is_chosen(llama_pair, task, tokenizer, monkeypatch):
    """With known speeds. The slower half answers fewer questions."""
    speeds = {
        (n, confidence): 100 + 7 * n - n * n / 4 + 10 * confidence for n in (4, 8, 16, 32) for confidence in (0, 0.4)
    }
    calls = []

    def answer(target, prompt, length, call):
        calls.append((tuple(prompt), length))
        tokens = 10 + len(calls) % 3
        return tokens, 5, tokens / speeds[length.num_assistant_tokens, length.confidence_threshold]

    monkeypatch.setattr(tuning, "_answer", answer)
    samples = [{"ids": [1, i]} for i in range(6)]
    arguments = (*llama_pair, tokenizer, task, samples, TopKRule(2))
    choice = tune_draft_length(*arguments, confidence_thresholds=(0.0, 0.4), progress=False)
    best = max(speeds, key=speeds.get)
    assert (choice.num_assistant_tokens, choice.confidence_threshold) == best == (16, 0.4)
    assert choice.tokens_per_second == pytest.approx(speeds[best])
    assert [row["n"] for row in choice.rows] == [6, 6, 4, 4, 2, 2, 2, 2]
    for row in choice.rows:
        setting = (row["num_assistant_tokens"], row["confidence_threshold"])
        assert row["tokens_per_second"] == pytest.approx(speeds[setting])
        asked = [prompt for prompt, length in calls if length == DraftLength(setting[0], "constant", setting[1])]
        assert asked == [(1, 0), *((1, i) for i in range(row["n"]))]  # the first one twice, once untimed
    order = [[length for prompt, length in calls[8:24] if prompt == (1, i)] for i in (0, 1)]
    assert order[0] != order[1] and set(order[0]) == set(order[1])


def test_counts_equal_single_calls_and_the_head_keeps_the_choice(llama_pair, task, tokenizer, head, tmp_path):
    judge = AutoJudgeHead(AutoJudgeConfig(**head.config.to_diff_dict()))
    judge.load_state_dict(head.state_dict())
    samples = task.load("validation", 3)
    options = {"num_assistant_tokens": (2, 5), "confidence_thresholds": (0.05,), "max_new_tokens": 12}
    choice = tune_draft_length(*llama_pair, tokenizer, task, samples, judge.eval(), **options, progress=False)
    assert choice.rows[0]["tokens_per_second"] == choice.tokens_per_second >= choice.rows[1]["tokens_per_second"]
    target, draft = llama_pair
    for row in choice.rows:
        tokens = calls = 0
        for sample in samples:
            stats = target.generate(
                torch.tensor([sample["ids"]]),
                assistant_model=draft,
                judge=head,
                num_assistant_tokens=row["num_assistant_tokens"],
                assistant_confidence_threshold=0.05,
                max_new_tokens=12,
                do_sample=False,
                return_dict_in_generate=True,
            ).judge_stats
            tokens, calls = tokens + stats.new_tokens, calls + stats.target_calls
        assert row["n"] == 3 and row["accepted"] == tokens / calls
    judge.save_pretrained(tmp_path)
    config = AutoJudgeHead.from_pretrained(tmp_path).config
    assert (config.num_candidate_tokens, config.confidence_threshold) == (choice.num_assistant_tokens, 0.05)


def test_a_time_limit(llama_pair, task, tokenizer):
    samples, options = task.load("validation", 6), {"num_assistant_tokens": (2, 4), "confidence_thresholds": (0.0,)}
    arguments = (*llama_pair, tokenizer, task, samples, TopKRule(2))
    choice = tune_draft_length(*arguments, **options, seconds=0, progress=False)
    assert [row["n"] for row in choice.rows] == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": []}, "no samples"),
        ({"num_assistant_tokens": [0, 4]}, "at least 1; got 0"),
        ({"confidence_thresholds": [1.5]}, r"\[0, 1\]; got 1.5"),
        ({"num_assistant_tokens": []}, "give 0 settings"),
        ({"num_assistant_tokens": [4, 4], "confidence_thresholds": [0.0]}, "give 1 settings"),
    ],
)
def test_bad_input(llama_pair, task, tokenizer, change, message):
    arguments = {"samples": task.load("validation", 1), "judge": TopKRule(2)} | change
    with pytest.raises(ValueError, match=message):
        tune_draft_length(*llama_pair, tokenizer, task, **arguments)


def test_the_config_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"confidence_threshold is a probability in \[0, 1\]; got 1.5"):
        AutoJudgeConfig(confidence_threshold=1.5)
