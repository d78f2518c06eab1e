"""What a file says about its origin (versions, revisions, the command), and writing files atomically: beside, then
rename."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

__version__ = "0.1.0"


def versions(*packages: str) -> dict[str, str]:
    """Versions of this package, of Python and of the named installed packages."""
    return {
        "hf_autojudge": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def digest(content: bytes) -> str:
    """The first 16 hexadecimal digits of the sha256."""
    return hashlib.sha256(content).hexdigest()[:16]


def model_names(target: Any, draft: Any) -> dict[str, str | None]:
    """Names and revisions of the models; `None` where a model is `None` or does not say."""
    names: dict[str, str | None] = {}
    for role, model in (("target", target), ("draft", draft)):
        config = model and model.config
        names |= {role: config and config.name_or_path, f"{role}_revision": getattr(config, "_commit_hash", None)}
    return names


def command_line() -> str:
    """The command that runs, without the folder of its program."""
    return shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success rename it to `path`. After an error `path` is unchanged."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{socket.gethostname()}-{os.getpid()}.tmp{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove temporary files that [`replacing`] left in `folder` when its process was killed. Files of running
    processes and of other machines are kept."""
    ours = re.compile(rf"\..*\.{re.escape(socket.gethostname())}-(\d+)\.tmp(\..*)?")
    for path in Path(folder).glob(".*"):
        if (found := ours.fullmatch(path.name)) and not _is_running(int(found[1])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def replacing_files(folder: str | os.PathLike) -> Iterator[Path]:
    """Yield an empty folder beside `folder` to write files to; on success move each into `folder`. After an error none
    is moved."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        yield Path(beside)
        for path in sorted(Path(beside).iterdir()):
            os.replace(path, folder / path.name)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write indented JSON atomically. NaN raises `ValueError`."""
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
