"""Rows of a data set, from the Hub by name or from a local file, through `datasets`."""

from __future__ import annotations

from pathlib import Path

from datasets import load_dataset

from hf_autojudge.labeling.tasks.task import Row

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def load_rows(
    data: str, split: str, limit: int | None = None, config: str | None = None, validation_share: int = 10
) -> list[Row]:
    """The first `limit` rows of a split.

    `"validation"` is every `validation_share`-th training row and `"train"` the others, so that the two share no rows.
    A local file holds one split's rows: for `"test"` all of them.

    Args:
        data (`str`): A data set of the Hub, or the path of a `.jsonl`, `.json`, `.parquet` or `.csv` file.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        limit (`int`, *optional*): Number of rows; all by default.
        config (`str`, *optional*): Configuration of a data set of the Hub.
        validation_share (`int`, *optional*, defaults to `10`): See above.

    Raises:
        ValueError: If the split is unknown, or a local file has a format that is not read.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"The split must be train, validation or test; got {split!r}.")
    path = Path(data)
    if path.suffix in _FORMATS:
        if not path.exists():
            raise ValueError(f"There is no file {data}; name a data file or a data set of the Hub.")
        rows = load_dataset(_FORMATS[path.suffix], data_files=str(path), split="train")
    else:
        rows = load_dataset(data, config, split="test" if split == "test" else "train")
    if split != "test":
        keep = [
            i for i in range(len(rows)) if (i % validation_share == validation_share - 1) == (split == "validation")
        ]
        rows = rows.select(keep)
    return rows.select(range(min(len(rows), len(rows) if limit is None else limit))).to_list()
