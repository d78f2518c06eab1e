"""Labels on disk: one Parquet file a prompt, so that a run that was killed resumes where it stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, List, Value

from hf_autojudge.files import read_json, replacing, write_json
from hf_autojudge.labeling.search import LabelledPrompt

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
            }
        ),
        "reference": List(Value("int32")),
        "response": List(Value("int32")),
    }
)


class LabelStore:
    """A folder of labels. Files appear whole or not at all; a file that cannot be read (a broken disk, a half copy) is
    dropped, and its prompt counts as not done.

    Args:
        folder (`str` or `Path`): Created if missing.
        settings (`dict`): What the labels depend on (models, task, limits); written to `manifest.json`. To add to a
            store, the settings must be the same.

    Raises:
        ValueError: If the folder holds labels made with other settings.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        manifest = self.folder / "manifest.json"
        if settings is not None:
            if manifest.exists() and (found := read_json(manifest)) != settings:
                differ = sorted(k for k in settings.keys() | found.keys() if settings.get(k) != found.get(k))
                raise ValueError(
                    f"{self.folder} holds labels made with other settings: "
                    + ", ".join(f"{k} was {found.get(k)!r} and is now {settings.get(k)!r}" for k in differ)
                    + "; choose another folder, or delete it."
                )
            write_json(manifest, settings)
        elif not manifest.exists():
            raise ValueError(
                f"{self.folder} is not a label store (it has no manifest.json); run `hf-autojudge label` first."
            )
        self.settings: dict[str, Any] = read_json(manifest)
        self._rows = self.folder / "prompts"
        self._rows.mkdir(exist_ok=True)

    def done(self) -> set[int]:
        """Indices of the prompts that are labelled. Removes what cannot be read."""
        found = set()
        for path in self._rows.iterdir():
            try:
                if path.name.startswith(".") or pq.read_metadata(path).num_rows != 1:
                    raise pa.ArrowInvalid("unfinished")
                pq.read_table(path)
                found.add(int(path.stem))
            except (pa.ArrowException, OSError, ValueError):
                path.unlink()
        return found

    def add(self, index: int, labelled: LabelledPrompt) -> None:
        """Write the labels of prompt `index`, replacing any that are there."""
        row = Dataset.from_list([{"index": index, **labelled.to_row()}], features=FEATURES)
        with replacing(self._rows / f"{index:08d}.parquet") as beside:
            pq.write_table(row.data.table, beside)

    def load(self) -> Dataset:
        """All labels, one row a prompt, in order of index.

        Raises:
            ValueError: If there are none.
        """
        paths = [self._rows / f"{index:08d}.parquet" for index in sorted(self.done())]
        if not paths:
            raise ValueError(f"{self.folder} holds no labels yet; run `hf-autojudge label` first.")
        return Dataset(pa.concat_tables([pq.read_table(path) for path in paths]))

    def labelled(self) -> list[LabelledPrompt]:
        """[`load`] as objects."""
        return [LabelledPrompt.from_row(dict(row)) for row in self.load().to_list()]
