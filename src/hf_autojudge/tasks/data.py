"""Loads the samples of a data set, from the Hub or from a local file, with `datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError

from hf_autojudge.tasks.base import Sample

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def load_samples(
    dataset: str,
    split: str,
    max_samples: int | None = None,
    config: str | None = None,
    validation_share: int = 10,
    columns: Sequence[str] = (),
) -> list[Sample]:
    """Load the first samples of a split.

    `"validation"` is every `validation_share`-th sample of the training data and `"train"` is the rest, so the two
    share no samples. A local file is used for whichever split is requested; `"test"` is all of it.

    Args:
        dataset (`str`): Name of a data set on the Hub, or path of a `.jsonl`, `.json`, `.parquet` or `.csv` file.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        max_samples (`int`, *optional*): Maximum number of samples. All by default.
        config (`str`, *optional*): Configuration of a data set on the Hub.
        validation_share (`int`, *optional*, defaults to `10`): See above; 0 holds out no samples.
        columns (`Sequence[str]`, *optional*): Required columns.

    Raises:
        ValueError: If the split is unknown, a local file does not exist or cannot be read, or a column is missing.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"The split must be train, validation or test; got {split!r}.")
    path = Path(dataset)
    if path.suffix in _FORMATS:
        if not path.exists():
            raise ValueError(f"There is no file {dataset}; name a data file or a data set on the Hub.")
        try:
            samples = load_dataset(_FORMATS[path.suffix], data_files=str(path), split="train")
        except DatasetGenerationError as error:
            raise ValueError(f"{dataset} cannot be read as {path.suffix} ({error.__cause__ or error}).") from error
    else:
        samples = load_dataset(dataset, config, split="test" if split == "test" else "train")
    if missing := sorted(set(columns) - set(samples.column_names)):
        raise ValueError(f"{dataset} has the columns {samples.column_names}; it lacks {missing}.")
    if split != "test":
        share = validation_share or len(samples) + 1
        chosen = [i for i in range(len(samples)) if (i % share == share - 1) == (split == "validation")]
        samples = samples.select(chosen)
    count = len(samples) if max_samples is None else min(max_samples, len(samples))
    return samples.select(range(count)).to_list()
