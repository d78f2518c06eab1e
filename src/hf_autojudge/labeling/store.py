"""Labels on disk: one Parquet file per prompt, so an interrupted run resumes where it stopped."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, List, Value

from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.provenance import read_json, remove_leftovers, replacing, versions, write_json

FEATURES = Features(
    {
        "index": Value("int64"),
        "prompt": List(Value("int32")),
        "mismatches": List(
            {
                "position": Value("int32"),
                "target_token": Value("int32"),
                "draft_token": Value("int32"),
                "important": Value("bool"),
                "importance": Value("float64"),
                "helpful": Value("bool"),
            }
        ),
        "reference": List(Value("int32")),
        "response": List(Value("int32")),
    }
)


class LabelStore:
    """A folder of labels.

    A file appears only when it is complete. What the search of an unfinished prompt has found so far is kept in
    `unfinished/` until the prompt's labels are written. A prompt whose file cannot be read, for instance after a
    partial copy, counts as not labelled, and labelling it again replaces the file. `manifest.json` holds the settings
    and, for each run that added labels, its start time, its command line, the versions of the packages and the facts
    in `run`. [`pack`] puts the labels of all prompts into one file, to be published.

    Args:
        folder (`str` or `Path`): Folder of the labels. Created if it does not exist.
        settings (`dict`, *optional*): What the labels depend on: models, task, maximum length, labelling method.
            Required to add labels; must equal the settings of a store that already exists.
        run (`dict`, *optional*): Further facts about this run, written to the manifest.

    Attributes:
        folder (`Path`): Folder of the labels.
        settings (`dict`): What the labels depend on.

    Raises:
        ValueError: If the folder holds labels made with other settings, or is not a label store.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        settings: dict[str, Any] | None = None,
        run: dict[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._prompts_folder = self.folder / "prompts"
        self._unfinished_folder = self.folder / "unfinished"
        path = self.folder / "manifest.json"
        if settings is None and not path.exists():
            raise ValueError(
                f"{self.folder} is not a label store (it has no manifest.json); run `hf-autojudge label` first."
            )
        manifest = read_json(path) if path.exists() else {"settings": settings, "runs": []}
        if not isinstance(manifest, dict) or "settings" not in manifest:
            raise ValueError(
                f"{path} is not the manifest of a label store, or an older version wrote it; label again into another "
                "folder."
            )
        self.settings: dict[str, Any] = manifest["settings"]
        if self.settings.get("method") == "autojudge":
            self.settings.setdefault("outcome", "same")  # earlier versions knew no other
        if settings is not None:
            stored = self.settings
            differing = sorted(k for k in settings.keys() | stored.keys() if settings.get(k) != stored.get(k))
            if differing:
                raise ValueError(
                    f"{self.folder} holds labels made with other settings: "
                    + ", ".join(f"{k} was {stored.get(k)!r} and is now {settings.get(k)!r}" for k in differing)
                    + "; choose another folder, or delete this one."
                )
            manifest["runs"].append(
                {
                    "began": datetime.now().astimezone().isoformat(timespec="seconds"),
                    "argv": sys.argv,
                    "versions": versions("torch", "transformers", "datasets"),
                }
                | (run or {})
            )
            write_json(path, manifest)
            remove_leftovers(self.folder)
            remove_leftovers(self._prompts_folder)
            remove_leftovers(self._unfinished_folder)
        self._prompts_folder.mkdir(exist_ok=True)

    def done(self) -> set[int]:
        """Indices of the labelled prompts. Changes nothing on disk, so other processes may be adding labels."""
        return set(self._tables())

    def prompts(self) -> dict[int, list[int]]:
        """Token ids of the labelled prompts, by index."""
        return {index: table["prompt"][0].as_py() for index, table in self._tables().items()}

    def add(self, index: int, labelled: LabelledPrompt) -> None:
        """Write the labels of prompt `index`, replacing existing ones."""
        data = Dataset.from_list([{"index": index, **asdict(labelled)}], features=FEATURES)
        with replacing(self._prompts_folder / f"{index:08d}.parquet") as path:
            pq.write_table(data.data.table, path)
        self._unfinished_file(index).unlink(missing_ok=True)

    def add_unfinished(self, index: int, found: LabelledPrompt) -> None:
        """Write what the search of prompt `index` has found so far, replacing what it had found before."""
        with replacing(self._unfinished_file(index)) as path:
            path.write_text(json.dumps(asdict(found)), encoding="utf-8")

    def unfinished(self, index: int, prompt: list[int]) -> LabelledPrompt | None:
        """What an unfinished search of prompt `index` has found; `None` if nothing, or if the prompt was another."""
        path = self._unfinished_file(index)
        if not path.exists() or (found := read_json(path))["prompt"] != prompt:
            return None
        return _record(found)

    def _unfinished_file(self, index: int) -> Path:
        return self._unfinished_folder / f"{index:08d}.json"

    def load(self) -> Dataset:
        """All labels as a data set with one row per prompt, in order of index.

        Raises:
            ValueError: If there are none.
        """
        tables = self._tables()
        if not tables:
            raise ValueError(f"{self.folder} holds no labels yet; run `hf-autojudge label` first.")
        return Dataset(pa.concat_tables(tables.values()))

    def labelled(self) -> list[LabelledPrompt]:
        """All labels as records, in order of index. Raises `ValueError` if there are none."""
        return [_record(row) for row in self.load().to_list()]

    def num_cut_off(self, end_tokens: Collection[int]) -> int:
        """How many of the target's answers have `max_new_tokens` tokens and no end token. 0 for annotated answers."""
        limit = self.settings.get("max_new_tokens")
        references = (table["reference"][0].as_py() for table in self._tables().values())
        return sum(len(tokens) == limit and tokens[-1] not in end_tokens for tokens in references)

    def pack(self) -> Path:
        """Put the labels into one file, `labels.parquet`, which replaces those of the prompts, and return its path.
        The store may grow afterwards.

        Raises:
            ValueError: If there are no labels.
        """
        packed = self.folder / "labels.parquet"
        with replacing(packed) as path:
            pq.write_table(self.load().data.table, path, compression="zstd")
        for path in self._prompt_files():
            path.unlink()
        return packed

    def _prompt_files(self) -> list[Path]:
        return [path for path in sorted(self._prompts_folder.glob("*.parquet")) if path.stem.isdigit()]

    def _tables(self) -> dict[int, pa.Table]:
        """The prompts' tables that can be read, by ascending index. What was labelled after packing counts."""
        tables: dict[int, pa.Table | None] = {}
        if (packed := self.folder / "labels.parquet").exists():
            table = pq.read_table(packed)
            tables = {index.as_py(): table.slice(row, 1) for row, index in enumerate(table["index"])}
        tables |= {int(path.stem): _read_table(path) for path in self._prompt_files()}
        return {index: table for index, table in sorted(tables.items()) if table is not None}


def _record(fields: Mapping[str, Any]) -> LabelledPrompt:
    mismatches = [Mismatch(**mismatch) for mismatch in fields["mismatches"]]
    return LabelledPrompt(fields["prompt"], mismatches, fields["reference"], fields["response"])


def _read_table(path: Path) -> pa.Table | None:
    """The table of one prompt; `None` if the file is damaged."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        return None
    if table.num_rows != 1 or table.column_names != list(FEATURES):
        return None
    if table.schema.equals(FEATURES.arrow_schema):
        return table
    (row,) = table.to_pylist()  # written by an earlier version, which knew no helpful mismatches
    mismatches = [{"helpful": False} | mismatch for mismatch in row["mismatches"]]
    return pa.Table.from_pylist([row | {"mismatches": mismatches}], schema=FEATURES.arrow_schema)
