"""No network, one thread, and small random pairs of several architectures."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_EVALUATE_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from tests.utils import ARCHITECTURES, make_pair

torch.set_num_threads(1)


@pytest.fixture(params=ARCHITECTURES, scope="session")
def pair(request):
    return make_pair(request.param)


@pytest.fixture(scope="session")
def llama_pair():
    return make_pair("llama")
