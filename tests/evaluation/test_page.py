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
def test_trace_equals_what_generate_did(llama_pair, head, tokenizer, ids, which, length):
    judges = {"exact": ExactMatchRule(), "top-3": TopKRule(3)}
    judge, threshold = judges.get(which, head), {"head": 0.5, "accept all": 1.0}.get(which)
    options = {"max_new_tokens": length, "num_assistant_tokens": 4}
    trace = trace_answer(*llama_pair, tokenizer, ids, judge, judge_threshold=threshold, **options)
    output = answer(llama_pair, judge, ids, threshold, **options)
    new = output.sequences[0, len(ids) :].tolist()
    stats = output.judge_stats
    assert [t.token for t in trace.tokens] == new
    assert "".join(t.text for t in trace.tokens) == tokenizer.decode(new, skip_special_tokens=True)
    labels = [t.label for t in trace.tokens]
    assert (trace.stats.matched, trace.stats.accepted_by_judge) == (stats.matched, stats.accepted_by_judge)
    assert labels.count("match") == stats.matched
    assert labels.count("accepted") == stats.accepted_by_judge
    # Every round ends in the target's token, except one that the end of the answer cuts
    assert stats.rounds - (labels.count("corrected") + labels.count("bonus")) in (0, 1)
    for piece in trace.tokens:
        assert (piece.other is not None) == (piece.label in ("accepted", "corrected"))
        if piece.other is not None:
            assert piece.other != tokenizer.decode([piece.token])
            assert (piece.importance is not None) == (judge is head)
        if which == "head" and piece.label in ("accepted", "corrected"):
            assert (piece.importance < 0.5) == (piece.label == "accepted")


def test_labels_follow_from_the_target_s_choices(llama_pair, tokenizer):
    """A corrected or matching token is the target's argmax after the tokens before it; an accepted one is not."""
    ids = PROMPTS[0]
    trace = trace_answer(*llama_pair, tokenizer, ids, TopKRule(3), max_new_tokens=20, num_assistant_tokens=4)
    new = [t.token for t in trace.tokens]
    with torch.no_grad():
        choices = llama_pair[0](torch.tensor([ids + new])).logits[0, len(ids) - 1 : -1].argmax(-1).tolist()
    assert any(t.label == "accepted" for t in trace.tokens)
    for piece, choice in zip(trace.tokens, choices, strict=True):
        assert (piece.token == choice) == (piece.label != "accepted")


def test_page_escapes_and_has_no_external_assets(tmp_path):
    evil = "<script>alert('x')</script> & \"q\"\n"
    tokens = [
        TokenTrace(5, evil, "match"),
        TokenTrace(6, "<b>", "accepted", other='"><i>', importance=0.25),
        TokenTrace(7, "\n", "corrected", other="a"),
        TokenTrace(8, "end", "bonus"),
    ]
    trace = AnswerTrace(tokens, JudgeStats(new_tokens=9, target_calls=3, accepted_by_judge=1))
    answer_page(evil, trace, trace, tmp_path / "a.html", title=evil)
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page and "<b>" not in page and "<i>" not in page
    assert not re.search(r"(src|href)=|@import|url\(", page)
    assert "&lt;script&gt;" in page
    assert "importance 0.250" in page and "the target chose" in page and "the draft chose" in page
    assert "<td>3.00</td>" in page
    assert page.count('class="accepted"') == 3  # the token in both answers, and the legend


def test_page_says_what_an_outcome_does_not_see(tmp_path):
    trace = AnswerTrace([TokenTrace(5, "a", "match")], JudgeStats(new_tokens=1, target_calls=1))
    answer_page("q", trace, trace, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    (note,) = re.findall(r'<p class="note">(.*?)</p>', page, flags=re.DOTALL)
    assert page.index('<ul class="legend">') < page.index(note)
    for piece in ("if the outcome of the task stays the same", "names, wording and style may still differ"):
        assert piece in " ".join(note.split())
