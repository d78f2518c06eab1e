import re

import pytest
import torch

from hf_autojudge import ExactMatchRule, JudgeStats, TopKRule
from hf_autojudge.evaluation import AnswerTrace, TokenTrace, answer_page, trace_answer

PROMPTS = [[1, 4, 9, 5], [1, 30, 7, 21], [1, 12, 13, 14]]


def answer(pair, judge, ids, threshold=None, **options):
    return pair[0].generate(
        torch.tensor([ids]),
        assistant_model=pair[1],
        judge=judge,
        judge_threshold=threshold,
        do_sample=False,
        return_dict_in_generate=True,
        **options,
    )


@pytest.mark.parametrize("ids", PROMPTS)
@pytest.mark.parametrize("which", ["exact", "head", "accept all", "top-3"])
@pytest.mark.parametrize("length", [17, 24])
def test_trace_says_what_generate_did(llama_pair, head, tokenizer, ids, which, length):
    judges = {"exact": ExactMatchRule(), "top-3": TopKRule(3)}
    judge, threshold = judges.get(which, head), {"head": 0.5, "accept all": 1.0}.get(which)
    options = {"max_new_tokens": length, "num_assistant_tokens": 4}
    trace = trace_answer(*llama_pair, judge, tokenizer, ids, judge_threshold=threshold, **options)
    output = answer(llama_pair, judge, ids, threshold, **options)
    new = output.sequences[0, len(ids) :].tolist()
    stats = output.judge_stats
    assert [t.token for t in trace.tokens] == new
    assert "".join(t.text for t in trace.tokens) == tokenizer.decode(new, skip_special_tokens=True)
    labels = [t.label for t in trace.tokens]
    assert (trace.stats.matched, trace.stats.accepted_by_judge) == (stats.matched, stats.accepted_by_judge)
    assert labels.count("match") == stats.matched
    assert labels.count("kept") == stats.accepted_by_judge
    # every round ends in the target's token, but a round that the end of the text cuts
    assert stats.rounds - (labels.count("corrected") + labels.count("bonus")) in (0, 1)
    for piece in trace.tokens:
        assert (piece.other is not None) == (piece.label in ("kept", "corrected"))
        if piece.other is not None:
            assert piece.other != tokenizer.decode([piece.token])
            assert (piece.importance is not None) == (judge is head)
        if which == "head" and piece.label in ("kept", "corrected"):
            assert (piece.importance < 0.5) == (piece.label == "kept")


def test_labels_are_the_target_s_own_choices(llama_pair, tokenizer):
    """A corrected or matching token is the target's argmax after the text so far; a kept one is not."""
    ids = PROMPTS[0]
    trace = trace_answer(*llama_pair, TopKRule(3), tokenizer, ids, max_new_tokens=20, num_assistant_tokens=4)
    new = [t.token for t in trace.tokens]
    with torch.no_grad():
        choices = llama_pair[0](torch.tensor([ids + new])).logits[0, len(ids) - 1 : -1].argmax(-1).tolist()
    assert any(t.label == "kept" for t in trace.tokens)
    for piece, choice in zip(trace.tokens, choices, strict=True):
        assert (piece.token == choice) == (piece.label != "kept")


def test_page_escapes_and_stands_alone(tmp_path):
    evil = "<script>alert('x')</script> & \"q\"\n"
    tokens = [
        TokenTrace(5, evil, "match"),
        TokenTrace(6, "<b>", "kept", other='"><i>', importance=0.25),
        TokenTrace(7, "\n", "corrected", other="a"),
        TokenTrace(8, "end", "bonus"),
    ]
    trace = AnswerTrace(tokens, JudgeStats(new_tokens=9, target_calls=3, accepted_by_judge=1))
    answer_page(evil, trace, trace, tmp_path / "a.html", title=evil)
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page and "<b>" not in page and "<i>" not in page
    assert not re.search(r"(src|href)=|@import|url\(", page)
    assert "&lt;script&gt;" in page
    assert "importance 0.250" in page and "the target wanted" in page and "the draft wanted" in page
    assert "<td>3.00</td>" in page
    assert page.count('class="kept"') == 3  # twice the token, once the legend
