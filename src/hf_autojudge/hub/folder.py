"""A judge's folder: save a judge and its reports to it, and upload it to the Hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from hf_autojudge.hub.card import PLOT, write_card
from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.provenance import replacing_files, write_json

JUDGE = ("config.json", "model.safetensors")
PLOTS = (PLOT, "acceptance.png", "reliability.png")
REPORTS = ("README.md", "fit.json", "calibration.json", "frontier.json", *PLOTS)


def save_judge(folder: str | os.PathLike, head: AutoJudgeHead, **reports: dict[str, Any]) -> None:
    """Write a head and its reports (`fit={...}` becomes `fit.json`) to a folder, each file atomically."""
    with replacing_files(folder) as beside:
        head.save_pretrained(beside)
        for name, report in reports.items():
            write_json(beside / f"{name}.json", report)


def push_judge(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload judge",
) -> str:
    """Upload a judge's folder to a model repository of the Hub: the judge, its reports and its card, and nothing else
    (no labels, features, answers or logs). Creates the repository if it does not exist.

    A card that is in the folder is uploaded as it is. To name the repository in its usage code, write it with
    `write_card(folder, repo_id=repo_id)` before. A folder without a card gets one.

    Args:
        folder (`str` or `os.PathLike`): Where the judge is saved, see [`save_judge`].
        repo_id (`str`): Name of the repository, `"name"` or `"organization/name"`.
        private (`bool`, *optional*): Whether a new repository is private; by default the organization's setting, else
            public.
        token (`str`, *optional*): A token of the Hub; the saved one by default.
        revision (`str`, *optional*): Branch, created if it does not exist; the main branch by default.
        commit_message (`str`, *optional*, defaults to `"Upload judge"`)

    Returns:
        `str`: The address of the commit.

    Raises:
        ValueError: If the folder holds no judge.
    """
    folder = Path(folder)
    if missing := [name for name in JUDGE if not (folder / name).is_file()]:
        raise ValueError(
            f"{folder} holds no judge (no {' and no '.join(missing)}); save one with save_judge or `hf-autojudge fit`."
        )
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if not (folder / "README.md").exists():
        write_card(folder, repo_id=repo_id)
    if revision is not None:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        commit_message=commit_message,
        revision=revision,
        allow_patterns=[*JUDGE, *REPORTS],
    )
    return commit.commit_url
