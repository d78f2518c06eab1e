"""A toy task and tokenizer for the random pairs of `tests/conftest.py`: no network, no embedded pair."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from hf_autojudge import AutoJudgeHead
from hf_autojudge.tasks.base import Task
from tests.utils import VOCAB


@pytest.fixture(scope="session")
def tokenizer():
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {
        f"<{i}>\n" if i % 7 == 0 else f"w{i} ": i for i in range(3, VOCAB)
    }
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def fourth_word(text: str) -> str | None:
    words = text.split()
    return words[3] if len(words) > 3 else None


@pytest.fixture(scope="session")
def task():
    """The outcome is the fourth word; the right one is in the sample."""
    samples = [{"ids": [1, 3 + i, 20 - i, 5], "answer": f"the right is w{i + 3}"} for i in range(6)]
    return Task(
        "toy",
        lambda sample, _tokenizer: sample["ids"],
        lambda sample, one, other: fourth_word(one) == fourth_word(other),
        lambda split, max_samples: samples[:max_samples],
        max_new_tokens=16,
    )


@pytest.fixture(scope="session")
def head():
    """Random, for states of width 32; about half of its importances lie below 0.5."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, generator=generator) / 8
    return AutoJudgeHead.from_linear(
        weight,
        0.0,
        torch.zeros(64),
        torch.ones(64),
        draft_hidden_size=32,
        target_hidden_size=32,
        num_candidate_tokens=4,
    )


@pytest.fixture(scope="session")
def samples(llama_pair, task, tokenizer):
    """Half of the samples get the greedy answer's outcome as the right one, so accuracy is neither 0 nor 1."""
    found = []
    for i, sample in enumerate(task.load("test", None)):
        new = llama_pair[0].generate(torch.tensor([sample["ids"]]), max_new_tokens=16, do_sample=False)[0, 4:]
        answer = tokenizer.decode(new, skip_special_tokens=True)
        found.append(sample | {"answer": answer if i % 2 == 0 and answer else "a b c none"})
    return found
