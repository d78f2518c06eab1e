"""Rows of a data set, from the Hub by name or from a local file, through `datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError

from hf_autojudge.tasks.base import Sample

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def load_samples(
    data: str,
    split: str,
    limit: int | None = None,
    config: str | None = None,
    validation_share: int = 10,
    columns: Sequence[str] = (),
) -> list[Sample]:
    """The first `limit` rows of a split.

    `"validation"` is every `validation_share`-th training row and `"train"` the others, so that the two share no rows.
    A local file holds one split's rows: for `"test"` all of them.

    Args:
        data (`str`): A data set of the Hub, or the path of a `.jsonl`, `.json`, `.parquet` or `.csv` file.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        limit (`int`, *optional*): Number of rows; all by default.
        config (`str`, *optional*): Configuration of a data set of the Hub.
        validation_share (`int`, *optional*, defaults to `10`): See above; 0 sets no row aside.
        columns (`Sequence[str]`, *optional*): Columns that must be there.

    Raises:
        ValueError: If the split is unknown, or a local file is missing or cannot be read, or a column is missing.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"The split must be train, validation or test; got {split!r}.")
    path = Path(data)
    if path.suffix in _FORMATS:
        if not path.exists():
            raise ValueError(f"There is no file {data}; name a data file or a data set of the Hub.")
        try:
            rows = load_dataset(_FORMATS[path.suffix], data_files=str(path), split="train")
        except DatasetGenerationError as error:
            raise ValueError(f"{data} cannot be read as {path.suffix} ({error.__cause__ or error}).") from error
    else:
        rows = load_dataset(data, config, split="test" if split == "test" else "train")
    if missing := sorted(set(columns) - set(rows.column_names)):
        raise ValueError(f"{data} has the columns {rows.column_names}; it lacks {missing}.")
    if split != "test":
        share = validation_share or len(rows) + 1
        rows = rows.select([i for i in range(len(rows)) if (i % share == share - 1) == (split == "validation")])
    return rows.select(range(min(len(rows), len(rows) if limit is None else limit))).to_list()
