import copy
from dataclasses import fields

import numpy as np
import pytest
import torch
from rich.console import Console

from hf_autojudge import ExactMatchRule, TopKRule
from hf_autojudge.evaluation import Frontier, load_metric, measure_frontier, plot_frontier
from hf_autojudge.evaluation.baselines import ASSISTED, EXACT, PLAIN, counted_calls, generation_settings
from hf_autojudge.evaluation.bootstrap import Bootstrap


@pytest.fixture(scope="module")
def found(llama_pair, head, task, tokenizer):
    # half of the rows get the greedy answer's outcome as the right one, so that accuracy is neither 0 nor 1
    rows = []
    for i, row in enumerate(task.load("test", None)):
        ids = torch.tensor([row["ids"]])
        new = llama_pair[0].generate(ids, max_new_tokens=16, do_sample=False)[0, 4:]
        answer = tokenizer.decode(new, skip_special_tokens=True)
        rows.append(row | {"answer": answer if i % 2 == 0 and answer else "a b c none"})
    judges = {"head": head, "top-3": TopKRule(3)}
    result = measure_frontier(*llama_pair, judges, task, [1.0, 0.5], tokenizer=tokenizer, rows=rows, progress=False)
    return result, rows


def test_points_in_order(found):
    names = [p.name for p in found[0].points]
    assert names == [PLAIN, ASSISTED, EXACT, "head, threshold 0.5", "head, threshold 1", "top-3"]
    assert found[0].settings["num_assistant_tokens"] == 4  # the head's window


def test_accuracy_is_the_hand_count(found, llama_pair, task, tokenizer):
    result, rows = found
    right = 0
    for row in rows:
        new = llama_pair[0].generate(torch.tensor([row["ids"]]), max_new_tokens=16, do_sample=False)[0, 4:]
        right += task.is_correct(tokenizer.decode(new, skip_special_tokens=True), row)
    assert 0 < right < len(rows)
    for name in (PLAIN, ASSISTED, EXACT):
        assert result[name].accuracy == right / len(rows)
        assert sum(result.questions[name].correct) == right


def test_threshold_0_counts_what_the_stats_count(found, llama_pair):
    result, rows = found
    tokens = calls = 0
    for row in rows:
        output = llama_pair[0].generate(
            torch.tensor([row["ids"]]),
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
    # The same candidates in the same number, so the same rounds, but for the last one of a text
    assert found[0][ASSISTED].accepted == pytest.approx(found[0][EXACT].accepted, rel=0.1)


def test_cap_hits_are_answers_without_an_end(found):
    for point in found[0].points:
        q = found[0].questions[point.name]
        assert point.length_cap_hits == sum(q.capped)
        assert all(n == 16 for n, capped in zip(q.new_tokens, q.capped, strict=True) if capped)


def test_intervals_hold_the_point(found):
    for p in found[0].points:
        for field in fields(p):
            if field.name.endswith("_interval"):
                low, high = getattr(p, field.name)
                value = getattr(p, field.name.removesuffix("_interval"))
                assert low - 1e-9 <= value <= high + 1e-9, (p.name, field.name)


def test_bootstrap_is_deterministic_and_paired():
    a, b = Bootstrap(30, seed=3), Bootstrap(30, seed=3)
    values = np.arange(30)
    assert a.interval(a.sums(values)) == b.interval(b.sums(values))
    assert a.interval(a.sums(values - values)) == (0, 0)
    assert np.all(a.sums(np.ones(30)) == 30)
    other = Bootstrap(30, seed=4)
    assert a.interval(a.sums(values)) != other.interval(other.sums(values))


def test_json_round_trip(found, tmp_path):
    found[0].to_json(tmp_path / "f.json")
    assert Frontier.from_json(tmp_path / "f.json") == found[0]
    (tmp_path / "other.json").write_text('{"points": 3}')
    with pytest.raises(ValueError, match="holds no frontier"):
        Frontier.from_json(tmp_path / "other.json")


def test_table_and_plot(found, tmp_path):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    console.print(found[0].table())
    assert "head @ 0.5" in console.export_text()
    plot_frontier(found[0], tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["f.png"]


def test_generation_config_comes_back(llama_pair):
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
        *llama_pair, {"h": head}, task, [0.0], tokenizer=tokenizer, limit=2, baselines=False, progress=False
    )
    assert [p.name for p in result.points] == [EXACT, "h, threshold 0"]
    assert result.settings["reference"] == EXACT and result.settings["n"] == 2
    assert result["h, threshold 0"].accuracy_difference == 0


def test_a_time_limit_keeps_whole_questions(llama_pair, task, tokenizer):
    result = measure_frontier(*llama_pair, TopKRule(2), task, [], tokenizer=tokenizer, seconds=0.0, progress=False)
    assert result.settings["n"] == 1
    assert all(len(q.correct) == len(q.seconds) == 1 for q in result.questions.values())


def test_close_thresholds_get_names_of_their_own(llama_pair, head, task, tokenizer):
    result = measure_frontier(
        *llama_pair,
        {"h": head},
        task,
        [0.12341, 0.12342],
        tokenizer=tokenizer,
        limit=1,
        progress=False,
        baselines=False,
    )
    assert [p.threshold for p in result.points] == [None, 0.12341, 0.12342]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "no questions"),
        ({"thresholds": [1.5]}, r"\[0, 1\].*got 1.5"),
        ({"thresholds": [float("nan")]}, "got nan"),
        ({"thresholds": []}, "needs at least one threshold"),
        ({"thresholds": [0.3, 0.3]}, "Names occur twice.*threshold 0.3"),
        ({"judges": {"plain greedy": TopKRule(2)}}, "Names occur twice.*plain greedy"),
        ({"num_assistant_tokens": 0}, "num_assistant_tokens must be at least 1; got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1; got 0"),
    ],
)
def test_errors(llama_pair, head, task, tokenizer, change, message):
    arguments = {"judges": {"h": head}, "task": task, "thresholds": [0.5], "tokenizer": tokenizer} | change
    with pytest.raises(ValueError, match=message):
        measure_frontier(*llama_pair, **arguments, progress=False)


def test_metric_loads_offline():
    found = load_metric().compute(predictions=["7", "", "8", " 9 "], references=["7", "", "9", "9"])
    assert found == {"accuracy": 0.5, "correct": [1, 0, 0, 1]}


def test_missing_evaluate_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "evaluate", None)
    with pytest.raises(ImportError, match=r"hf_autojudge\[eval\]"):
        load_metric()
