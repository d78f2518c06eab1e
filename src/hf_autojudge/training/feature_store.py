"""Features on disk: shards of whole prompts, read memory-mapped, so that neither collecting nor fitting holds them
all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.provenance import model_names, read_json, write_json
from hf_autojudge.training.features import MismatchFeatures, available_features, features_by_prompt, joined

SHARD_ROWS = 8192


def store_features(
    target: PreTrainedModel,
    draft: PreTrainedModel | None,
    labelled: Sequence[LabelledPrompt],
    folder: str | os.PathLike,
    features: Sequence[str] | None = None,
    shard_rows: int = SHARD_ROWS,
) -> list[MismatchFeatures]:
    """[`collect_features`] into a folder, and give what it holds. What the folder has of these labels is not collected
    again: an interrupted run goes on after its last whole shard, and a second fit reads no model.

    A shard is a safetensors file named after its prompts, `<first>-<after the last>`; it also tells a digest of the
    labels it was made of. From the first shard whose labels are others now, everything is collected anew.

    Args:
        target ([`PreTrainedModel`])
        draft ([`PreTrainedModel`], *optional*): See [`collect_features`].
        labelled (sequence of [`LabelledPrompt`])
        folder (`str` or `Path`): Created if missing.
        features (`Sequence[str]`, *optional*): By default those that the folder holds, in a new one all that these
            models have.
        shard_rows (`int`, *optional*, defaults to 8192): A shard ends with the prompt that brings it to so many
            mismatches; so much is held in memory.

    Returns:
        The shards, memory-mapped, in order.

    Raises:
        ValueError: If the folder holds features of other models or lacks one of `features`, or for what
            [`collect_features`] refuses.
    """
    folder = Path(folder)
    names = _kept_features(folder, _settings(target, draft), draft, features)
    done = 0
    shards = []
    for path in sorted(folder.glob("[0-9]*-[0-9]*.safetensors")):
        first, end = (int(number) for number in path.stem.split("-"))
        if first == done and end <= len(labelled) and _digest_of(path) == _digest(labelled[first:end]):
            shards.append(path)
            done = end
        else:
            path.unlink()
    parts: list[MismatchFeatures] = []
    for item in features_by_prompt(target, draft, labelled[done:], names, first=done):
        parts.append(item)
        end = done + len(parts)
        if sum(map(len, parts)) >= shard_rows or end == len(labelled):
            shards.append(folder / f"{done:08d}-{end:08d}.safetensors")
            joined(parts).save(shards[-1], {"labels": _digest(labelled[done:end])})
            done, parts = end, []
    return [MismatchFeatures.load(path) for path in shards]


def _settings(target: PreTrainedModel, draft: PreTrainedModel | None) -> dict[str, Any]:
    dtypes = {
        f"{role}_dtype": None if model is None else str(model.dtype).removeprefix("torch.")
        for role, model in (("target", target), ("draft", draft))
    }
    return model_names(target, draft) | dtypes


def _kept_features(
    folder: Path, settings: dict[str, Any], draft: PreTrainedModel | None, features: Sequence[str] | None
) -> list[str]:
    """Which features the folder holds. A new one is given its settings; those of another must be the same, and
    `features` among what it holds."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        names = list(available_features(draft) if features is None else features)
        write_json(manifest, settings | {"features": names})
        return names
    found = read_json(manifest)
    problems = [
        f"{k} was {found.get(k)!r} and is now {settings[k]!r}" for k in settings if settings[k] != found.get(k)
    ]
    if missing := sorted(set(features or ()) - set(found["features"])):
        problems.append(f"{', '.join(missing)} was not collected")
    if problems:
        raise ValueError(
            f"{folder} holds features collected otherwise: {'; '.join(problems)}. Choose another folder, or delete it."
        )
    return list(found["features"])


def _digest(labelled: Sequence[LabelledPrompt]) -> str:
    rows = hashlib.sha256()
    for item in labelled:
        rows.update(json.dumps(item.to_row()).encode())
    return rows.hexdigest()


def _digest_of(path: Path) -> str | None:
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("labels")
    except (SafetensorError, OSError):
        return None
