"""Loading the embedded pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PAIR = Path(__file__).parent / "pair"
"""Folder with `target/` and `draft/`: configs and bf16 safetensors; the tokenizer of both is in `target/`."""


def load_pair(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Any, Any, Any]:
    """Load the pair that ships with the package. Needs no network.

    Args:
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`)
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): The weights are stored in bf16.

    Returns:
        Target, draft and the tokenizer of both.
    """
    models = []
    for name in ("target", "draft"):
        model = AutoModelForCausalLM.from_pretrained(PAIR / name, dtype=dtype).to(device).eval()
        model.config.name_or_path = f"hf_autojudge/embedded-{name}"  # judges and reports must not name a local path
        models.append(model)
    return models[0], models[1], AutoTokenizer.from_pretrained(PAIR / "target")
