"""The semi-greedy search equals a plain sequential reference, however many prompts are searched at once."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_autojudge.labeling import AutoJudge, find_important_tokens
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.progress import LabelingProgress
from tests.reference import run
from tests.utils import ARCHITECTURES, VOCAB, same_outcome, some_prompts, unlike_pair


def reference_search(target, draft, prompt, same_outcome, max_new_tokens, eos):
    """Algorithm 1 of arXiv 2504.20039, one token and one full forward pass at a time."""
    limit = len(prompt) + max_new_tokens

    def finish(text):
        text = list(text)
        while len(text) < limit and not (len(text) > len(prompt) and text[-1] in eos):
            text.append(int(run(target, text)[0][-1].argmax()))
        return text

    response = finish(prompt)
    reference = response[len(prompt) :]
    mismatches, border = [], len(prompt)
    while True:
        for position in range(border, len(response)):
            choice = int(run(draft, response[:position])[0][-1].argmax())
            if choice != response[position]:
                break
        else:
            return mismatches, reference, response[len(prompt) :]
        alternative = finish([*response[:position], choice])
        important = not same_outcome(reference, alternative[len(prompt) :])
        mismatches.append((position - len(prompt), response[position], choice, important))
        if not important:
            response = alternative
        border = position + 1


def plain(item):
    labels = [(m.position, m.target_token, m.draft_token, m.important) for m in item.mismatches]
    return labels, item.reference, item.response


@pytest.mark.parametrize(
    ("architecture", "n"), [*((a, 6) for a in ARCHITECTURES), pytest.param("llama", 50, marks=pytest.mark.slow)]
)
def test_labels_equal_the_sequential_reference(architecture, n):
    target, draft = unlike_pair(architecture)
    prompts = some_prompts(n)
    expected = [reference_search(target, draft, p.tolist(), same_outcome, 14, {2, 5}) for p in prompts]
    for batch_size in (1, 4, 16):
        found = find_important_tokens(target, draft, prompts, same_outcome, 14, [2, 5], batch_size)
        assert [plain(item) for item in found] == expected
    assert {m[3] for labels, _, _ in expected for m in labels} == {True, False}


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_batch_of_any_lengths(llama_pair, data):
    prompt = st.lists(st.integers(3, VOCAB - 1), min_size=1, max_size=40)
    prompts = data.draw(st.lists(prompt, min_size=1, max_size=7))
    length = data.draw(st.integers(1, 40))
    batch_size = data.draw(st.integers(2, 5))
    modulus = data.draw(st.integers(1, 4))

    def same(a, b):
        return sum(a) % modulus == sum(b) % modulus

    together = find_important_tokens(*llama_pair, prompts, same, length, batch_size=batch_size)
    one_by_one = [plain(find_important_tokens(*llama_pair, [p], same, length, batch_size=1)[0]) for p in prompts]
    assert [plain(item) for item in together] == one_by_one


def test_threads_change_nothing():
    pair = Pair(*unlike_pair("llama"))
    jobs = [Job(i, p.tolist(), pair.limits(i, p.tolist(), 14), same_outcome) for i, p in enumerate(some_prompts(12))]
    assert sorted(pair.run(AutoJudge(), jobs, 4, threads=3)) == sorted(pair.run(AutoJudge(), jobs, 4))


def test_a_failing_comparison_reaches_the_caller(llama_pair):
    def same(_a, _b):
        raise KeyError("no tests")

    pair = Pair(*unlike_pair("llama"))
    jobs = [Job(0, [3, 4], pair.limits(0, [3, 4], 14), same)]
    for threads in (0, 2):
        with pytest.raises(KeyError, match="no tests"):
            list(pair.run(AutoJudge(), jobs, 4, threads))


def test_settled_answers_are_dropped_without_changing_labels():
    """The outcome is the first token above 40; an answer that has one is settled."""
    target, draft = unlike_pair("llama")

    def outcome(ids):
        return next((token for token in ids if token > 40), None)

    def same(a, b):
        return outcome(a) == outcome(b)

    pair = Pair(target, draft)
    written, found = [], []
    for settled in (None, lambda ids: outcome(ids) is not None):
        jobs = [
            Job(i, p.tolist(), pair.limits(i, p.tolist(), 30), same, settled) for i, p in enumerate(some_prompts(8))
        ]
        progress = LabelingProgress(len(jobs))
        found.append(sorted(pair.run(AutoJudge(), jobs, 1, progress=progress)))
        written.append(progress.speculation.written)
    assert found[0] == found[1]
    assert written[1] < written[0]


def test_rollouts_give_soft_labels_and_leave_hard_ones(llama_pair):
    target, draft = unlike_pair("llama")
    prompts = some_prompts(6)
    hard = find_important_tokens(target, draft, prompts, same_outcome, 14, [2])
    soft = find_important_tokens(target, draft, prompts, same_outcome, 14, [2], rollouts=3, temperature=1.0)
    again = find_important_tokens(target, draft, prompts, same_outcome, 14, [2], 3, rollouts=3, temperature=1.0)
    assert soft == again  # another batch size
    assert [plain(item) for item in soft] == [plain(item) for item in hard]
    shares = {m.importance for item in soft for m in item.mismatches}
    assert shares <= {0, 0.25, 0.5, 0.75, 1} and len(shares) > 2
    other = find_important_tokens(target, draft, prompts, same_outcome, 14, [2], rollouts=3, temperature=1.0, seed=1)
    assert other != soft


@pytest.mark.parametrize("role", ["target", "draft"])
def test_a_model_of_another_kind_runs_one_sequence_at_a_time(role, llama_pair, caplog):
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    config = BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.25, eos_token_id=2)
    bloom = BloomForCausalLM(config).eval()
    target, draft = (bloom, llama_pair[1]) if role == "target" else (llama_pair[0], bloom)
    found = find_important_tokens(target, draft, some_prompts(4), same_outcome, 10, [2])
    assert "one at a time" in caplog.text
    for prompt, item in zip(some_prompts(4), found, strict=True):
        assert plain(item) == reference_search(target, draft, prompt.tolist(), same_outcome, 10, {2})


def test_a_target_spread_over_devices(llama_pair, tmp_path):
    """As `device_map="auto"` leaves it: here one layer lives on the disk."""
    from transformers import AutoModelForCausalLM

    target, draft = llama_pair
    target.save_pretrained(tmp_path / "target")
    places = dict.fromkeys(
        ["model.embed_tokens", "model.rotary_emb", "model.layers.1", "model.norm", "lm_head"], "cpu"
    )
    spread = AutoModelForCausalLM.from_pretrained(
        tmp_path / "target", device_map=places | {"model.layers.0": "disk"}, offload_folder=tmp_path / "disk"
    )
    prompts = some_prompts(5)
    together = find_important_tokens(spread, draft, prompts, same_outcome, 12)
    assert together == find_important_tokens(target, draft, prompts, same_outcome, 12)


def test_the_drafts_own_settings_do_not_reach_its_answers(llama_pair):
    target, draft = unlike_pair("llama")
    expected = find_important_tokens(target, draft, some_prompts(3), same_outcome, 10, [2])
    for name, value in {"return_dict_in_generate": True, "num_return_sequences": 2, "stop_strings": ["a"]}.items():
        draft = unlike_pair("llama")[1]
        setattr(draft.generation_config, name, value)
        draft.generation_config.num_beams = 2
        draft.generation_config.prompt_lookup_num_tokens = 3
        assert find_important_tokens(target, draft, some_prompts(3), same_outcome, 10, [2]) == expected
        assert getattr(draft.generation_config, name) == value


def test_prompts_beyond_learned_positions_are_named():
    target, draft = unlike_pair("gpt2")
    with pytest.raises(ValueError, match="Prompt 1 has 250 tokens and its answer up to 10, but the target knows 256"):
        find_important_tokens(target, draft, [[3, 4], [5] * 250], same_outcome, 10)


def test_end_tokens_default_to_the_targets(llama_pair):
    target, draft = llama_pair
    prompts = [p.tolist() for p in some_prompts(3)]
    assert target.generation_config.eos_token_id == 2
    a = find_important_tokens(target, draft, prompts, same_outcome, 10)
    assert a == find_important_tokens(target, draft, prompts, same_outcome, 10, eos_token_id=2)


@pytest.mark.parametrize(
    ("prompts", "limit", "options", "message"),
    [
        ([[]], 5, {}, "Prompt 0 is empty"),
        ([[3]], 0, {}, "got 0"),
        ([[3]], 5, {"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ([[3]], 5, {"rollouts": -1}, "got -1"),
        ([[3]], 5, {"rollouts": 1, "temperature": 0.0}, "temperature"),
    ],
)
def test_bad_input(llama_pair, prompts, limit, options, message):
    with pytest.raises(ValueError, match=message):
        find_important_tokens(*llama_pair, prompts, same_outcome, limit, **options)
