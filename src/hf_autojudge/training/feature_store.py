"""Features on disk: memory-mapped shards of whole prompts, so that they need not fit into memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.progress import Progress
from hf_autojudge.provenance import model_names, read_json, write_json
from hf_autojudge.training.features import MismatchFeatures, available_features, concatenate, features_by_prompt

SHARD_SIZE = 8192


def store_features(
    target: PreTrainedModel,
    draft: PreTrainedModel | None,
    labelled: Sequence[LabelledPrompt],
    folder: str | os.PathLike,
    features: Sequence[str] | None = None,
    shard_size: int = SHARD_SIZE,
    progress: bool = True,
) -> list[MismatchFeatures]:
    """Run [`collect_features`] into a folder and return the folder's features. Features that the folder already holds
    of these labels are not collected again: an interrupted run resumes after its last complete shard, and a second fit
    runs no model.

    A shard is a safetensors file named after its range of prompts, `<first>-<end>`, with a digest of its labels in the
    metadata. From the first shard whose labels have changed, everything is collected again.

    Args:
        target ([`PreTrainedModel`]): See [`collect_features`].
        draft ([`PreTrainedModel`], *optional*): See [`collect_features`].
        labelled (sequence of [`LabelledPrompt`]): The labels.
        folder (`str` or `Path`): Created if missing.
        features (`Sequence[str]`, *optional*): Features to collect; by default those that the folder holds, in a new
            folder all that the given models have.
        shard_size (`int`, *optional*, defaults to 8192): Number of mismatches at which a shard is complete. It ends
            with a whole prompt, and is held in memory until then.
        progress (`bool`, *optional*, defaults to `True`): Show the prompts read and the time left.

    Returns:
        The shards, memory-mapped, in order.

    Raises:
        ValueError: If the folder holds features of other models or lacks one of `features`, and in the cases in which
            [`collect_features`] raises it.
    """
    folder = Path(folder)
    settings: dict[str, Any] = model_names(target, draft)
    for role, model in (("target", target), ("draft", draft)):
        settings[f"{role}_dtype"] = None if model is None else str(model.dtype).removeprefix("torch.")
    names = _stored_features(folder, settings, draft, features)
    done = 0
    shards = []
    for path in sorted(folder.glob("[0-9]*-[0-9]*.safetensors")):
        first, end = (int(number) for number in path.stem.split("-"))
        if first == done and end <= len(labelled) and _stored_digest(path) == _digest(labelled[first:end]):
            shards.append(path)
            done = end
        else:
            path.unlink()
    parts: list[MismatchFeatures] = []
    with Progress("Reading hidden states", len(labelled), "prompts", initial=done, disable=not progress) as bar:
        for part in features_by_prompt(target, draft, labelled[done:], names, first=done):
            parts.append(part)
            end = done + len(parts)
            bar.set(end)
            if sum(map(len, parts)) >= shard_size or end == len(labelled):
                shards.append(folder / f"{done:08d}-{end:08d}.safetensors")
                concatenate(parts).save(shards[-1], {"labels": _digest(labelled[done:end])})
                done, parts = end, []
    return [MismatchFeatures.load(path) for path in shards]


def _stored_features(
    folder: Path, settings: dict[str, Any], draft: PreTrainedModel | None, features: Sequence[str] | None
) -> list[str]:
    """Names of the features that the folder holds. A new folder gets a manifest with `settings` and the features.

    Raises:
        ValueError: If the folder's settings differ from `settings`, or it lacks one of `features`.
    """
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
            f"{folder} holds features collected with other settings: {'; '.join(problems)}. Choose another folder, or "
            "delete this one."
        )
    return list(found["features"])


def _digest(labelled: Sequence[LabelledPrompt]) -> str:
    digest = hashlib.sha256()
    for item in labelled:
        digest.update(json.dumps(asdict(item)).encode())
    return digest.hexdigest()


def _stored_digest(path: Path) -> str | None:
    """The digest of a shard's labels; `None` if the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("labels")
    except (SafetensorError, OSError):
        return None
