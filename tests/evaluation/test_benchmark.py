import copy
from dataclasses import fields

import pytest
import torch
from rich.console import Console

from hf_autojudge import ExactMatchRule, TopKRule
from hf_autojudge.evaluation import (
    Frontier,
    measure_frontier,
    plot_acceptance_by_position,
    plot_frontier,
    trace_answer,
)
from hf_autojudge.evaluation.decoder import counted_calls, generation_settings
from hf_autojudge.evaluation.strategies import ASSISTED, DRAFT, EXACT, PLAIN
from hf_autojudge.judges.compose import all_of
from tests.utils import VOCAB, make_pair


@pytest.fixture(scope="module")
def found(llama_pair, head, task, tokenizer, samples):
    judges = {"head": head, "top-3": TopKRule(3)}
    return measure_frontier(*llama_pair, tokenizer, task, samples, judges, [1.0, 0.5], progress=False), samples


def test_points_in_order(found):
    names = [p.name for p in found[0].points]
    assert names == [PLAIN, DRAFT, ASSISTED, EXACT, "head, threshold 0.5", "head, threshold 1", "top-3"]
    assert found[0].settings["num_assistant_tokens"] == 4  # the head's


def test_accuracy_is_the_hand_count(found, llama_pair, task, tokenizer):
    result, samples = found
    right = 0
    for sample in samples:
        new = llama_pair[0].generate(torch.tensor([sample["ids"]]), max_new_tokens=16, do_sample=False)[0, 4:]
        right += task.is_correct(tokenizer.decode(new, skip_special_tokens=True), sample)
    assert 0 < right < len(samples)
    for name in (PLAIN, ASSISTED, EXACT):
        assert result[name].accuracy == right / len(samples)
        assert sum(result.questions[name].correct) == right


def test_threshold_0_counts_what_the_stats_count(found, llama_pair):
    result, samples = found
    tokens = calls = 0
    for sample in samples:
        output = llama_pair[0].generate(
            torch.tensor([sample["ids"]]),
            assistant_model=llama_pair[1],
            judge=ExactMatchRule(),
            num_assistant_tokens=4,
            max_new_tokens=16,
            do_sample=False,
            return_dict_in_generate=True,
        )
        tokens += output.judge_stats.new_tokens
        calls += output.judge_stats.target_calls
    assert result[EXACT].accepted == pytest.approx(tokens / calls)
    assert result[PLAIN].accepted == 1
    assert result[EXACT].accepted_ratio == 1 and result[EXACT].accepted_ratio_interval == (1, 1)
    assert result[EXACT].length_inflation == 1
    assert result["head, threshold 1"].accepted > result[EXACT].accepted


def test_assisted_generation_drafts_as_we_do(found):
    # The same number of the same candidates gives the same rounds, except the last of an answer
    assert found[0][ASSISTED].accepted == pytest.approx(found[0][EXACT].accepted, rel=0.1)


def test_cap_hits_are_answers_without_an_end_token(found):
    for point in found[0].points:
        q = found[0].questions[point.name]
        assert point.length_cap_hits == sum(q.capped)
        assert all(n == 16 for n, capped in zip(q.new_tokens, q.capped, strict=True) if capped)


def test_intervals_contain_the_point(found):
    for p in found[0].points:
        for field in fields(p):
            if field.name.endswith("_interval") and getattr(p, field.name) is not None:
                low, high = getattr(p, field.name)
                value = getattr(p, field.name.removesuffix("_interval"))
                assert low - 1e-9 <= value <= high + 1e-9, (p.name, field.name)


def test_json_round_trip(found, tmp_path):
    found[0].to_json(tmp_path / "f.json")
    assert Frontier.from_json(tmp_path / "f.json") == found[0]
    (tmp_path / "other.json").write_text('{"points": 3}')
    with pytest.raises(ValueError, match="holds no frontier"):
        Frontier.from_json(tmp_path / "other.json")


def test_table_and_plots(found, tmp_path):
    console = Console(width=116, record=True, file=open("/dev/null", "w"))
    console.print(found[0].table())
    lines = console.export_text().splitlines()
    for name in ("head @ 0.5", "head @ 1", "top-3", "plain greedy"):
        assert any(name in line for line in lines)
    (alone,) = [line.split() for line in lines if DRAFT in line]
    assert alone.count("-") == 2  # tokens per target call, and their ratio
    assert not any("…" in line for line in lines)
    plot_frontier(found[0], tmp_path / "f.png")
    plot_acceptance_by_position(found[0], tmp_path / "a.png")
    for name in ("f.png", "a.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


def test_print_shows_the_table(found, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    print(found[0])
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "head @ 0.5" in line]
    assert f"{found[0]['head, threshold 0.5'].accepted:.2f}" in line.split()
    assert max(map(len, lines)) <= 116 and not any("\x1b" in line or "…" in line for line in lines)


def test_a_judge_of_another_task_is_named(llama_pair, head, task, tokenizer, samples):
    other = copy.deepcopy(head)
    other.config.task = "sums"
    judges = {"here": head, "other": other, "composed": all_of(TopKRule(2), other)}
    result = measure_frontier(*llama_pair, tokenizer, task, samples[:1], judges, [0.5], progress=False)
    assert result.settings["judge_tasks"] == {"other": "sums", "composed": "sums"} and head.config.task is None
    console = Console(width=116, record=True, file=open("/dev/null", "w"))
    console.print(result.table())
    text = console.export_text()
    assert text.count("made for sums") == 2 and "toy, 1 questions" in text


def test_drafting_stops_at_unsure_candidates(llama_pair, task, tokenizer, samples):
    options = {"baselines": False, "progress": False}
    always = measure_frontier(*llama_pair, tokenizer, task, samples, {}, **options)
    rarely = measure_frontier(*llama_pair, tokenizer, task, samples, {}, assistant_confidence_threshold=0.9, **options)
    assert rarely.settings["assistant_confidence_threshold"] == 0.9
    assert rarely[EXACT].accepted < always[EXACT].accepted
    assert rarely.questions[EXACT].new_tokens == always.questions[EXACT].new_tokens


def test_the_draft_alone_answers_as_the_draft(found, llama_pair, task, tokenizer):
    result, samples = found
    right, lengths = 0, []
    for sample in samples:
        new = llama_pair[1].generate(torch.tensor([sample["ids"]]), max_new_tokens=16, do_sample=False)[0, 4:]
        right += task.is_correct(tokenizer.decode(new, skip_special_tokens=True), sample)
        lengths.append(len(new))
    point = result[DRAFT]
    assert point.accuracy == right / len(samples) and result.questions[DRAFT].new_tokens == lengths
    assert point.accepted is None and point.accepted_ratio_interval is None
    assert point.acceptance_by_position is None and point.speed_ratio_to_target is not None


def test_generation_config_is_restored(llama_pair):
    draft = llama_pair[1]
    before, saved = draft.generation_config, copy.deepcopy(draft.generation_config.to_dict())
    with pytest.raises(RuntimeError):
        with generation_settings(draft, {"num_assistant_tokens": 3}), counted_calls(draft):
            assert draft.generation_config.num_assistant_tokens == 3
            raise RuntimeError
    assert draft.generation_config is before
    assert before.to_dict() == saved
    assert not draft._forward_pre_hooks


def test_without_baselines_the_reference_is_threshold_0(llama_pair, head, task, tokenizer):
    result = measure_frontier(
        *llama_pair, tokenizer, task, task.load("test", 2), {"h": head}, [0.0], baselines=False, progress=False
    )
    assert [p.name for p in result.points] == [EXACT, "h, threshold 0"]
    assert result.settings["reference"] == EXACT and result.settings["n"] == 2
    assert result["h, threshold 0"].accuracy_difference == 0


def test_a_time_limit_ends_between_questions(llama_pair, task, tokenizer):
    result = measure_frontier(
        *llama_pair, tokenizer, task, task.load("test", None), TopKRule(2), seconds=0.0, progress=False
    )
    assert result.settings["n"] == 1
    assert all(len(q.correct) == len(q.seconds) == 1 for q in result.questions.values())


def test_close_thresholds_get_different_names(llama_pair, head, task, tokenizer):
    result = measure_frontier(
        *llama_pair,
        tokenizer,
        task,
        task.load("test", 1),
        {"h": head},
        [0.12341, 0.12342],
        progress=False,
        baselines=False,
    )
    assert [p.threshold for p in result.points] == [None, 0.12341, 0.12342]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": []}, "no samples"),
        ({"thresholds": [1.5]}, r"\[0, 1\].*got 1.5"),
        ({"thresholds": [float("nan")]}, "got nan"),
        ({"thresholds": []}, "needs at least one threshold"),
        ({"thresholds": [0.3, 0.3]}, "Names occur twice.*threshold 0.3"),
        ({"judges": {"plain greedy": TopKRule(2)}}, "Names occur twice.*plain greedy"),
        ({"num_assistant_tokens": 0}, "num_assistant_tokens must be a whole number of at least 1; got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"num_timed": 0}, "num_timed must be at least 1; got 0"),
        ({"assistant_confidence_threshold": 2}, r"assistant_confidence_threshold must lie in \[0, 1\]; got 2"),
    ],
)
def test_errors(llama_pair, head, task, tokenizer, change, message):
    arguments = {"samples": task.load("test", 1), "judges": {"h": head}, "thresholds": [0.5]} | change
    with pytest.raises(ValueError, match=message):
        measure_frontier(*llama_pair, tokenizer, task, **arguments, progress=False)


@pytest.mark.parametrize("more", [8, -2])
def test_vocabularies_padded_to_different_sizes(more, task, tokenizer):
    """As those of Qwen2.5's models of 0.5 and 7 billion parameters."""
    target, draft = make_pair("llama")
    draft.resize_token_embeddings(VOCAB + more)
    samples = [{"ids": [1, VOCAB - 1, *sample["ids"]], "answer": ""} for sample in task.load("test", 2)]
    result = measure_frontier(target, draft, tokenizer, task, samples, TopKRule(2), progress=False)
    assert result[EXACT].length_inflation == 1 and result[ASSISTED].accuracy == result[PLAIN].accuracy
    trace_answer(target, draft, tokenizer, [1, 3], TopKRule(2), max_new_tokens=4)
