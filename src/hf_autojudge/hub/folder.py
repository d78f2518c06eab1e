"""Save a judge and its reports to a folder."""

from __future__ import annotations

import os
from typing import Any

from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.provenance import replacing_files, write_json


def save_judge(folder: str | os.PathLike, head: AutoJudgeHead, **reports: dict[str, Any]) -> None:
    """Write a head and its reports (`fit={...}` becomes `fit.json`) to a folder, each file atomically."""
    with replacing_files(folder) as beside:
        head.save_pretrained(beside)
        for name, report in reports.items():
            write_json(beside / f"{name}.json", report)
