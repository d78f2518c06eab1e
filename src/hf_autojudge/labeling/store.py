"""Labels on disk: one Parquet file a prompt, so that a run that was killed resumes where it stopped."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, List, Value

from hf_autojudge.labeling.records import LabelledPrompt
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
            }
        ),
        "reference": List(Value("int32")),
        "response": List(Value("int32")),
    }
)


class LabelStore:
    """A folder of labels. Files appear whole or not at all; the prompt of a file that cannot be read (a broken disk, a
    half copy) counts as not done, and labelling it again replaces the file.

    Args:
        folder (`str` or `Path`): Created if missing.
        settings (`dict`, *optional*): What the labels depend on (models, task, limits), to add labels. Those of a
            store that exists must be the same.
        run (`dict`, *optional*): Further facts about this run.

    `manifest.json` keeps the settings and, for each run that added labels, when it began, its command line, the
    packages' versions and the further facts.

    Raises:
        ValueError: If the folder holds labels made with other settings.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        settings: dict[str, Any] | None = None,
        run: dict[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if settings is None and not path.exists():
            raise ValueError(
                f"{self.folder} is not a label store (it has no manifest.json); run `hf-autojudge label` first."
            )
        manifest = read_json(path) if path.exists() else {"settings": settings, "runs": []}
        if not isinstance(manifest, dict) or "settings" not in manifest:
            raise ValueError(f"{path} is not a label store's, or an older version's; label again into another folder.")
        self.settings: dict[str, Any] = manifest["settings"]
        if settings is not None:
            found = self.settings
            differ = sorted(k for k in settings.keys() | found.keys() if settings.get(k) != found.get(k))
            if differ:
                raise ValueError(
                    f"{self.folder} holds labels made with other settings: "
                    + ", ".join(f"{k} was {found.get(k)!r} and is now {settings.get(k)!r}" for k in differ)
                    + "; choose another folder, or delete it."
                )
            manifest["runs"].append(_this_run() | (run or {}))
            write_json(path, manifest)
            remove_leftovers(self.folder)
            remove_leftovers(self.folder / "prompts")
        self._rows = self.folder / "prompts"
        self._rows.mkdir(exist_ok=True)

    def done(self) -> set[int]:
        """Indices of the prompts that are labelled. Only reads: another process may be labelling here."""
        return set(self._tables())

    def prompts(self) -> dict[int, list[int]]:
        """Token ids of the prompts that are labelled, by index."""
        return {index: table["prompt"][0].as_py() for index, table in self._tables().items()}

    def _tables(self) -> dict[int, pa.Table]:
        """The whole files' tables of one row, by rising index."""
        paths = (path for path in sorted(self._rows.glob("*.parquet")) if path.stem.isdigit())
        found = {int(path.stem): _read(path) for path in paths}
        return {index: table for index, table in found.items() if table is not None}

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
        tables = self._tables()
        if not tables:
            raise ValueError(f"{self.folder} holds no labels yet; run `hf-autojudge label` first.")
        return Dataset(pa.concat_tables(tables.values()))

    def labelled(self) -> list[LabelledPrompt]:
        """[`load`] as objects."""
        return [LabelledPrompt.from_row(dict(row)) for row in self.load().to_list()]


def _this_run() -> dict[str, Any]:
    return {
        "began": datetime.now().astimezone().isoformat(timespec="seconds"),
        "argv": sys.argv,
        "versions": versions("torch", "transformers", "datasets"),
    }


def _read(path: Path) -> pa.Table | None:
    """The one row of a file; `None` if the file is not whole."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        return None
    return table if table.num_rows == 1 and table.column_names == list(FEATURES) else None
