"""How far a reader has to walk: the files that one call enters, from `generate(judge=)` to the first mask."""

import os
import sys

import pytest
import torch

import hf_autojudge
from hf_autojudge import free_static_caches
from tests.utils import DEFAULT, PAD, make_pair, random_head

SOURCE = os.path.dirname(hf_autojudge.__file__)


def walk(batch_size, **call):
    """The package's files, in the order in which the functions of one call are entered, up to the judge's answer."""
    target, draft = make_pair("llama", seed=7)
    _, judge = random_head(DEFAULT, seed=0)
    files, arrived = [], False

    def trace(frame, event, _arg):
        nonlocal arrived
        if arrived or not frame.f_code.co_filename.startswith(SOURCE):
            return
        if event == "call":
            files.append(os.path.relpath(frame.f_code.co_filename, SOURCE))
        elif event == "return" and frame.f_code.co_name == "accept":
            arrived = True

    ids = torch.tensor([[5, 6, 7]] * batch_size)
    options = {"max_new_tokens": 20, "num_assistant_tokens": 4, "eos_token_id": None, "pad_token_id": PAD} | call
    sys.setprofile(trace)
    try:
        target.generate(ids, attention_mask=torch.ones_like(ids), assistant_model=draft, judge=judge, **options)
    finally:
        sys.setprofile(None)
        free_static_caches(target)
        free_static_caches(draft)
    assert arrived
    return files


@pytest.mark.parametrize(
    ("batch_size", "call", "most_files", "most_moves"),
    [(1, {}, 9, 50), (3, {}, 10, 70), (1, {"cache_implementation": "static"}, 11, 70)],
)
def test_files_entered_up_to_the_first_mask(batch_size, call, most_files, most_moves):
    files = walk(batch_size, **call)
    moves = sum(one != other for one, other in zip(files, files[1:], strict=False))
    assert len(set(files)) <= most_files, sorted(set(files))
    assert moves <= most_moves
