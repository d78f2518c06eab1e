"""Labels that the AutoJudge authors' scripts mined, as records of a [`LabelStore`].

Their `find_important_tokens*.py` write a list of dictionaries with `torch.save`, which is a pickle: opening one runs
whatever code is in it, so this package does not. Where you trust the file, turn it into JSON once:

    import json, torch
    records = torch.load("important_tokens.pt", weights_only=False)
    keep = ("id", "global_id", "skip", "changed_token_indices")
    plain = [{name: r[name] for name in keep if name in r}
             | {"current_response": r["current_response"].flatten().tolist()} for r in records]
    json.dump(plain, open("important_tokens.json", "w"))

(or `datasets.Dataset.from_list(plain).save_to_disk(folder)` for Arrow). The files of several processes make one list.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, load_from_disk
from safetensors import SafetensorError
from safetensors.torch import load_file

from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.store import LabelStore

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin")


def import_labels(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    target: str,
    draft: str,
    task: str = "gsm8k",
) -> LabelStore:
    """Write records of the AutoJudge authors' shape into a label store, ready to fit on.

    Each record has `changed_token_indices`, a list of `(position, important, target token, draft token)`, positions
    counted from the prompt's first token, and `current_response`, the token ids of the prompt and the last accepted
    answer. `id` or `global_id` gives its place (else it is the record's number); `prompt_length`, if it is there, says
    where the answer begins (else at the first mismatch: features do not depend on it). Records without mismatches and
    with a `skip` are left out, as in the authors' own `calc_hiddens.py`.

    Args:
        path (`str` or `Path`): A `.json` (a list) or `.jsonl` file; an Arrow data set (a folder of `save_to_disk`, or
            an `.arrow` or `.parquet` file); or a `.safetensors` file with the int64 tensors `changed_token_indices` of
            shape `(mismatches, 4)` and `current_response` of shape `(tokens,)`, those of all records one after the
            other, and `mismatches` and `tokens` of shape `(records,)`: how many of them each record has.
        folder (`str` or `Path`): The store.
        target, draft (`str`): Repositories (or folders) of the models that made the labels.
        task (`str`, *optional*, defaults to `"gsm8k"`): Name of the task.

    Raises:
        ValueError: For a pickle, a file that cannot be read, a record of another shape, or two different records for
            one place; then nothing is written.
    """
    found: dict[int, LabelledPrompt] = {}
    for number, record in enumerate(_records(Path(path))):
        if (item := _labelled(number, record)) is not None:
            if found.setdefault(item[0], item[1]) != item[1]:
                raise ValueError(f"{path} has two different records for place {item[0]}; give each an id of its own.")
    settings = {"method": "imported", "target": target, "draft": draft, "task": task}
    store = LabelStore(folder, settings, {"imported_from": os.fspath(path)})
    there = dict(zip(sorted(store.done()), store.labelled(), strict=True)) if store.done() else {}
    if clash := [index for index in found if there.get(index, found[index]) != found[index]]:
        raise ValueError(
            f"{folder} already has other labels at the places {clash[:5]} of {path}; import all records as one file, "
            "or into another folder."
        )
    for index, labels in found.items():
        store.add(index, labels)
    return store


def _records(path: Path) -> Iterable[Mapping[str, Any]]:
    kind = path.suffix
    if kind in PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run code when it is opened; turn it into JSON first (how: see "
            "hf_autojudge.labeling.imported)."
        )
    if not path.exists():
        raise ValueError(f"There is no file {path}.")
    try:
        if path.is_dir():
            return load_from_disk(str(path))
        if kind == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        if kind == ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if kind == ".parquet":
            return Dataset.from_parquet(str(path), keep_in_memory=True)
        if kind == ".arrow":
            return Dataset.from_file(str(path))
        if kind == ".safetensors":
            return list(_from_tensors({name: tensor.tolist() for name, tensor in load_file(path).items()}))
    except (json.JSONDecodeError, UnicodeDecodeError, pa.ArrowException, SafetensorError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as {kind or 'an Arrow data set'} ({error}).") from error
    raise ValueError(f"{path} must be .json, .jsonl, .arrow, .parquet, .safetensors or a folder of save_to_disk.")


def _from_tensors(tensors: Mapping[str, list]) -> Iterator[dict[str, Any]]:
    mismatches, tokens = iter(tensors["changed_token_indices"]), iter(tensors["current_response"])
    for many, length in zip(tensors["mismatches"], tensors["tokens"], strict=True):
        yield {
            "changed_token_indices": [next(mismatches) for _ in range(many)],
            "current_response": [next(tokens) for _ in range(length)],
        }


def _labelled(number: int, record: Mapping[str, Any]) -> tuple[int, LabelledPrompt] | None:
    """Its place and labels; `None` if it has none."""
    try:
        place = next((record[name] for name in ("id", "global_id") if record.get(name) is not None), number)
        changed = sorted(
            (int(position), bool(important), int(target), int(draft))
            for position, important, target, draft in record["changed_token_indices"]
        )
        text = record["current_response"]
        if len(text) == 1 and isinstance(text[0], list):  # a batch of one
            (text,) = text
        text = [int(token) for token in text]
        if not changed or record.get("skip"):
            return None
        place, start = int(place), int(record.get("prompt_length") or changed[0][0])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"Record {number} is not of AutoJudge's shape ({type(error).__name__}: {error}): it needs "
            "changed_token_indices, rows of 4, and current_response, token ids; its id is a number."
        ) from error
    tokens = [*text, *(token for row in changed for token in row[2:])]
    if place < 0 or not 0 <= min(tokens) <= max(tokens) < 2**31:
        raise ValueError(
            f"Record {number} has the id {place} and token ids from {min(tokens)} to {max(tokens)}; all must be 0 or "
            "more, and less than 2**31."
        )
    if not 0 < start <= changed[0][0] or changed[-1][0] >= len(text):
        raise ValueError(
            f"Record {number} has mismatches at {changed[0][0]} to {changed[-1][0]}, which do not lie in its "
            f"{len(text)} tokens after a prompt of {start}."
        )
    mismatches = [Mismatch(position - start, target, draft, flag) for position, flag, target, draft in changed]
    return place, LabelledPrompt(text[:start], mismatches, text[start:], text[start:])
