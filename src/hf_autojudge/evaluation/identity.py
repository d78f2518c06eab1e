"""What identifies a judge: a text and, of its heads, the tasks they were trained for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.provenance import digest


def describe_judge(judge: Any) -> str:
    """A text that differs for judges that decide differently: the class, its fields and, of a head, what it reads and
    a digest of its weights. The threshold of a head is left out, because a run sets it."""
    if isinstance(judge, torch.nn.Module):
        weights = b"".join(
            name.encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
            for name, tensor in sorted(judge.state_dict().items())
        )
        reads = f"{judge.config.features}, " if isinstance(judge, AutoJudgeHead) else ""
        return f"{type(judge).__name__}({reads}sha256 {digest(weights)})"
    if is_dataclass(judge):
        values = [f"{f.name}={describe_judge(getattr(judge, f.name))}" for f in fields(judge) if f.init]
        return f"{type(judge).__name__}({', '.join(values)})"
    if isinstance(judge, (list, tuple)):
        return f"[{', '.join(map(describe_judge, judge))}]"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(judge))  # an address would differ in every process


def trained_for(judge: Any) -> set[str]:
    """Names of the tasks whose outcomes the judge's heads learned; empty for rules."""
    return {head.config.task for head in _heads(judge) if head.config.task}


def _heads(judge: Any) -> Iterator[AutoJudgeHead]:
    """The trained heads that a judge is, or is composed of."""
    if isinstance(judge, AutoJudgeHead):
        yield judge
    elif isinstance(judge, (list, tuple)):
        for part in judge:
            yield from _heads(part)
    elif is_dataclass(judge):
        for f in fields(judge):
            yield from _heads(getattr(judge, f.name))
