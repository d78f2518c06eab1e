"""Predictions are the models' own, however sequences share passes."""

import random
from collections import Counter

import pytest
import torch

from hf_autojudge.labeling.noise import Noise
from hf_autojudge.labeling.predictions import PredictionRequest, Predictor
from hf_autojudge.runners import BatchedRunner, PackedRunner
from tests.reference import run
from tests.utils import VOCAB, make_model


def test_a_rollout_is_a_sample_of_the_target():
    """The share of each second token after a fixed first one, over many seeds, against the target's own softmax."""
    target = make_model("llama", 32, 2, seed=3)
    probabilities = (run(target, [3, 4, 5])[0][-1] / 1.5).softmax(-1)
    predictor = Predictor(target, 1, 100, VOCAB)
    drawn = Counter()
    with torch.inference_mode():
        for seed in range(3000):
            request = PredictionRequest("target", [3, 4, 5], 1, Noise(seed * 7919 + (seed << 32), 1.5))
            drawn[predictor.predict({0: request})[0].tokens[0]] += 1
    expected = probabilities * 3000
    often = expected >= 5
    observed = torch.tensor([float(drawn[token]) for token in range(VOCAB)])
    chi2 = ((observed - expected)[often] ** 2 / expected[often]).sum()
    assert chi2 < often.sum() + 4 * (2 * often.sum()) ** 0.5


@pytest.mark.parametrize(
    ("architecture", "attention", "runner"),
    [
        *((architecture, "sdpa", PackedRunner) for architecture in ("llama", "qwen3", "mistral", "gpt2")),
        *((architecture, "eager", BatchedRunner) for architecture in ("llama", "gemma2", "mistral")),
    ],
)
def test_predictors_agree(architecture, attention, runner):
    """Sequences that change in the middle, grow, shrink and are exchanged; any number of predictions."""
    model = make_model(architecture, 32, 2, seed=3)
    model.set_attn_implementation(attention)
    many, one = Predictor(model, 4, 120, VOCAB), [Predictor(model, 1, 120, VOCAB) for _ in range(4)]
    assert many.num_sequences == 4 and type(many._runner) is runner
    random.seed(1)
    sequences = [[random.randrange(3, VOCAB) for _ in range(random.randrange(5, 40))] for _ in range(4)]
    with torch.inference_mode():
        for _ in range(25):
            requests = {}
            for slot in random.sample(range(4), random.randrange(1, 5)):
                tokens = sequences[slot][: random.randrange(3, len(sequences[slot]) + 1)]
                tokens = tokens + [random.randrange(3, VOCAB) for _ in range(random.randrange(1, 30))]
                sequences[slot] = tokens[:100]
                count = random.randrange(1, len(sequences[slot]))
                requests[slot] = PredictionRequest("target", sequences[slot], count, logprobs=True)
            found = many.predict(requests)
            assert model.config._attn_implementation == attention
            for slot, request in requests.items():
                expected = one[slot].predict({0: request})[0]
                logits = run(model, request.tokens)[0]
                assert found[slot].tokens == expected.tokens == logits[-request.count :].argmax(-1).tolist()
                following = torch.tensor(request.tokens[len(request.tokens) - request.count + 1 :])
                logprobs = logits[-request.count : -1].log_softmax(-1).gather(-1, following[:, None])[:, 0]
                assert torch.allclose(torch.tensor(found[slot].logprobs), logprobs, atol=1e-4)
                assert torch.allclose(torch.tensor(expected.logprobs), logprobs, atol=1e-4)
