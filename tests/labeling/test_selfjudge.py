"""Labels by likelihood equal plain arithmetic on whole texts."""

import math

import pytest

from hf_autojudge.labeling import SelfJudge
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.pair import Pair
from tests.reference import run
from tests.utils import same_outcome, some_prompts, unlike_pair


def reference_labels(target, draft, prompt, max_new_tokens, ends, threshold, suffix):
    text = list(prompt)
    while len(text) < len(prompt) + max_new_tokens and not (len(text) > len(prompt) and text[-1] in ends):
        text.append(int(run(target, text)[0][-1].argmax()))

    def likelihood(tokens):
        scores = run(target, tokens)[0].log_softmax(-1)
        return sum(float(scores[i - 1, tokens[i]]) for i in range(1, len(tokens)))

    labels = []
    for position in range(len(prompt), len(text)):
        token = int(run(draft, text[:position])[0][-1].argmax())
        if token != text[position]:
            upto = text[: position + 1 + suffix]
            score = likelihood(upto) - likelihood([*upto[:position], token, *upto[position + 1 :]])
            labels.append((position - len(prompt), text[position], token, score))
    return labels, text[len(prompt) :]


@pytest.mark.parametrize(("threshold", "suffix"), [(5.0, 20), (1.0, 3), (2.0, 0)])
def test_labels_equal_the_reference(threshold, suffix):
    target, draft = unlike_pair("llama")
    pair = Pair(target, draft, [2])
    prompts = [p.tolist() for p in some_prompts(5)]
    jobs = [Job(i, p, pair.limits(i, p, 25), same_outcome) for i, p in enumerate(prompts)]
    kinds = set()
    for batch_size in (1, 4):
        for index, found in sorted(pair.run(SelfJudge(threshold, suffix), jobs, batch_size)):
            labels, answer = reference_labels(target, draft, prompts[index], 25, {2}, threshold, suffix)
            assert found.reference == found.response == answer
            assert [(m.position, m.target_token, m.draft_token) for m in found.mismatches] == [x[:3] for x in labels]
            for m, (_, _, _, score) in zip(found.mismatches, labels, strict=True):
                assert m.important == (score > threshold)
                assert m.importance == pytest.approx(1 - min(1, math.exp(-score)), abs=1e-3)
                kinds.add(m.important)
    assert kinds == {True, False}


def test_bad_settings():
    with pytest.raises(ValueError, match="got -1"):
        SelfJudge(max_log_likelihood_drop=-1)
