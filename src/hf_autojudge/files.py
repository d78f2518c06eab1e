"""Writing files so that none is ever half written: beside, then rename."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a path beside `path` to write to; afterwards rename it to `path`. On an error `path` stays as it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{socket.gethostname()}-{os.getpid()}.tmp{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove what [`replacing`] left in `folder` where its process was killed. Files of processes that live, or that
    ran on another machine, stay."""
    ours = re.compile(rf"\..*\.{re.escape(socket.gethostname())}-(\d+)\.tmp(\..*)?")
    for path in Path(folder).glob(".*"):
        if (found := ours.fullmatch(path.name)) and not _lives(int(found[1])):
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def replacing_files(folder: str | os.PathLike) -> Iterator[Path]:
    """Give an empty folder beside `folder` to write files to; afterwards move each into `folder`. On an error none is
    moved."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        yield Path(beside)
        for path in sorted(Path(beside).iterdir()):
            os.replace(path, folder / path.name)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write JSON, indented, whole or not at all. NaN is refused with `ValueError`."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> Any:
    """Read JSON.

    Raises:
        ValueError: If the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"There is no file {path}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it and run the step that wrote it again.") from error
