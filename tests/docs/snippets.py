"""Code blocks of the documentation, and how they are run."""

import re
import shlex
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from textwrap import dedent
from unittest.mock import patch

from hf_autojudge.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "bash", "console", "text", "json", "yaml"}
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its first line of code, counted from 0."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], dedent(found["code"]), text[: found.start("code")].count("\n"))
        for found in FENCE.finditer(text)
    ]


def blocks_to_run(page: Path) -> list[Block]:
    """The Python and Bash blocks, without the README's first two of Bash, which install the package."""
    found = [block for block in blocks(page) if block.language in ("python", "bash")]
    if page.name == "README.md":
        first_two = [block for block in found if block.language == "bash"][:2]
        assert all("pip install" in block.code for block in first_two)
        found = [block for block in found if block not in first_two]
    return found


def run_python(block: Block, page: Path, namespace: dict) -> None:
    # Empty lines in front, so that errors name the page's own lines
    exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)


def run_bash(block: Block, page: Path) -> None:
    """Run the `hf-autojudge` commands of a block in this process."""
    for line in block.code.replace("\\\n", " ").splitlines():
        command = shlex.split(line, comments=True)
        if not command:
            continue
        assert command[0] == "hf-autojudge", f"{page}: {line!r} is not run here; fence it as ```console"
        run_command(command, f"{page}:{block.line + 1}: {line}")


def run_command(command: list[str], where: str) -> None:
    errors = StringIO()
    with redirect_stderr(errors), patch.object(sys, "argv", command):
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, f"{where}\n{errors.getvalue()}"
