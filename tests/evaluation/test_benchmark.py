import copy
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from rich.console import Console

from hf_autojudge import ExactMatchRule, TopKRule
from hf_autojudge.evaluation import Frontier, load_metric, measure_frontier, plot_frontier, trace_answer
from hf_autojudge.evaluation.baselines import ASSISTED, EXACT, PLAIN, counted_calls, generation_settings
from hf_autojudge.evaluation.report import Questions, make_point
from tests.utils import VOCAB, make_pair


@pytest.fixture(scope="module")
def found(llama_pair, head, task, tokenizer):
    # Half of the samples get the greedy answer's outcome as the right one, so that accuracy is neither 0 nor 1
    samples = []
    for i, sample in enumerate(task.load("test", None)):
        ids = torch.tensor([sample["ids"]])
        new = llama_pair[0].generate(ids, max_new_tokens=16, do_sample=False)[0, 4:]
        answer = tokenizer.decode(new, skip_special_tokens=True)
        samples.append(sample | {"answer": answer if i % 2 == 0 and answer else "a b c none"})
    judges = {"head": head, "top-3": TopKRule(3)}
    result = measure_frontier(*llama_pair, tokenizer, task, samples, judges, [1.0, 0.5], progress=False)
    return result, samples


def test_points_in_order(found):
    names = [p.name for p in found[0].points]
    assert names == [PLAIN, ASSISTED, EXACT, "head, threshold 0.5", "head, threshold 1", "top-3"]
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
            if field.name.endswith("_interval"):
                low, high = getattr(p, field.name)
                value = getattr(p, field.name.removesuffix("_interval"))
                assert low - 1e-9 <= value <= high + 1e-9, (p.name, field.name)


def make_questions(n):
    random = np.random.default_rng(0)
    columns = [random.integers(2, size=n), random.integers(20, 200, size=n), random.integers(5, 20, size=n)]
    return Questions(*(column.tolist() for column in columns), seconds=random.random(n).tolist(), capped=[0] * n)


def intervals(point):
    return {f.name: getattr(point, f.name) for f in fields(point) if f.name.endswith("_interval")}


def test_bootstrap_is_deterministic_and_paired():
    own, other = make_questions(30), replace(make_questions(30), correct=[1, 0] * 15)
    point = make_point("own", "own", None, own, own, own, seed=3)
    assert intervals(make_point("own", "own", None, own, own, own, seed=3)) == intervals(point)
    assert point.accuracy_difference_interval == (0, 0) and point.accepted_ratio_interval == (1, 1)
    against_other = make_point("own", "own", None, own, other, own, seed=3)
    assert against_other.accuracy_difference_interval != (0, 0)
    assert against_other.accuracy_interval == point.accuracy_interval  # the same resamples
    other_seed = make_point("own", "own", None, own, own, own, seed=4)
    for name in ("accuracy_interval", "accepted_interval", "tokens_per_second_interval"):
        assert getattr(point, name) != getattr(other_seed, name)


def test_intervals_are_as_wide_as_the_normal_approximation():
    n = 2000
    own = make_questions(n)
    point = make_point("own", "own", None, own, own, own)
    width = 2 * 1.96 * np.sqrt(point.accuracy * (1 - point.accuracy) / n)
    assert np.diff(point.accuracy_interval) == pytest.approx(width, rel=0.1)
    # The delta method for a ratio of sums
    new_tokens, target_calls = np.array(own.new_tokens), np.array(own.target_calls)
    residuals = (new_tokens - point.accepted * target_calls) / target_calls.mean()
    assert np.diff(point.accepted_interval) == pytest.approx(2 * 1.96 * residuals.std() / np.sqrt(n), rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_degenerate_questions_have_intervals_of_width_0(n):
    own = Questions([1] * n, [40] * n, [16] * n, [0.5] * n, [0] * n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        point = make_point("own", "own", None, own, own, own)
    assert point.accuracy_interval == (1, 1) and point.accuracy_difference_interval == (0, 0)
    assert point.accepted_interval == (2.5, 2.5) and point.accepted_ratio_interval == (1, 1)
    assert point.tokens_per_second_interval == (80, 80)


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
    ],
)
def test_errors(llama_pair, head, task, tokenizer, change, message):
    arguments = {"samples": task.load("test", 1), "judges": {"h": head}, "thresholds": [0.5]} | change
    with pytest.raises(ValueError, match=message):
        measure_frontier(*llama_pair, tokenizer, task, **arguments, progress=False)


def test_metric_loads_offline():
    found = load_metric().compute(predictions=["7", "", "8", " 9 "], references=["7", "", "9", "9"])
    assert found == {"accuracy": 0.5, "correct": [1, 0, 0, 1]}


def test_vocabularies_padded_to_different_sizes(llama_pair, task, tokenizer):
    """As those of Qwen2.5's models of 0.5 and 7 billion parameters."""
    target, draft = make_pair("llama")
    draft.resize_token_embeddings(VOCAB + 8)
    result = measure_frontier(target, draft, tokenizer, task, task.load("test", 2), TopKRule(2), progress=False)
    assert result[EXACT].length_inflation == 1 and result[ASSISTED].accuracy == result[PLAIN].accuracy
    trace_answer(target, draft, tokenizer, [1, 3], TopKRule(2), max_new_tokens=4)
