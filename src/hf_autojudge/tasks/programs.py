"""Answers that are programs: the consent to run them, the code in a text, and whether it passes."""

from __future__ import annotations

import ast
import builtins
import os
import re
import symtable
import warnings
from collections.abc import Collection
from functools import lru_cache

from hf_autojudge.tasks.sandbox.program import run_program

THREADS = os.cpu_count() or 1
"""How many programs a task runs at the same time."""

_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?)```[ \t]*(?P<language>\w*)[^`\n]*\n"  # also as a list's item
    r"(?P<code>.*?)(?:^[ \t]*```|```[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_FIRST_LINES = re.compile(r"(?:[ \t]*(?:#[^\n]*|from[ \t]+__future__[ \t]+import\b[^\n]*)?\n)*")
_DEFINITIONS = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign),
)
_NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
_SOURCE = "a generated program"  # the file's name in Python's warnings
warnings.filterwarnings("ignore", module=_SOURCE)


def check_consent(task: str, allow_code_execution: bool) -> None:
    """Raises a `ValueError` unless generated programs may be run: by the argument, or by `HF_ALLOW_CODE_EVAL=1` in the
    environment (as for `evaluate`'s `code_eval`)."""
    if not allow_code_execution and os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        raise ValueError(
            f"The task {task} runs programs that models wrote (contained, see tasks/sandbox/program.py); allow it "
            "with allow_code_execution=True (on the command line: --allow-code-execution) or the environment variable "
            "HF_ALLOW_CODE_EVAL=1."
        )


def fenced_code(text: str, names: Collection[str]) -> str | None:
    """The code of an answer: of its blocks between ``` fences (marked Python or not marked), the last that defines
    one of `names`, as models correct themselves and then show how to use it; else the first; `None` without any.

    Functions, classes, constants and imports of earlier blocks come with it where it needs and lacks them.
    """
    defined = re.compile(
        rf"^[ \t]*(?:async[ \t]+def|def|class)[ \t]+(?:{'|'.join(map(re.escape, names))})\b", re.MULTILINE
    )
    blocks: list[str] = []
    chosen = 0
    for block in _BLOCK.finditer(text):
        if block["language"].lower() in ("", "python", "python3", "py"):
            if names and defined.search(block["code"]):
                chosen = len(blocks)
                blocks.append(_dedent(block["code"], len(block["code"])))
            else:  # perhaps a function's body, whose own indentation stays
                blocks.append(_dedent(block["code"], len(block["indent"])))
    return _with_helpers(blocks[chosen], blocks[:chosen], names) if blocks else None


def join(*parts: str) -> str:
    """One program of several texts: the imports from `__future__` that one begins with must begin the whole."""
    first = []
    for part in parts:
        match = _FIRST_LINES.match(part)
        first.append(match[0] if match and "__future__" in match[0] else "")
    return "".join(first) + "\n".join(part[len(lines) :] for part, lines in zip(parts, first, strict=True))


def _dedent(code: str, most: int) -> str:
    """Without the indentation that all lines share, of at most `most` characters."""
    lines = code.split("\n")
    shared = os.path.commonprefix([line[: len(line) - len(line.lstrip(" \t"))] for line in lines if line.strip()])
    return "\n".join(line[min(most, len(shared)) :] for line in lines)


def _with_helpers(code: str, earlier: list[str], names: Collection[str]) -> str:
    """`code` after those definitions of earlier blocks, the last of each, that it or `names` needs. Nothing else of
    them is run: they may hold mistakes that it corrects."""
    if not earlier or (own := _names(code)) is None:
        return code
    defined, needed = own[0] | set(dir(builtins)), own[1] | set(names)
    statements: list[tuple[str, set[str], set[str]]] = []
    for block in earlier:
        try:
            sources = [ast.unparse(node) for node in ast.parse(block, _SOURCE).body if isinstance(node, _DEFINITIONS)]
        except _NOT_PYTHON:
            continue
        statements += [(source, *found) for source in sources if (found := _names(source)) is not None]
    chosen: set[int] = set()
    while new := [i for i, statement in enumerate(statements) if statement[1] & (needed - defined)]:
        chosen.add(new[-1])
        defined |= statements[new[-1]][1]
        needed |= statements[new[-1]][2]
    return join(*(statements[i][0] for i in sorted(chosen)), code)


def _names(code: str) -> tuple[set[str], set[str]] | None:
    """The global names that code defines and those that it uses; `None` if it is no Python."""
    try:
        tables = [symtable.symtable(code, _SOURCE, "exec")]
    except _NOT_PYTHON:
        return None
    defined = {symbol.get_name() for symbol in tables[0].get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used: set[str] = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
    return defined, used


@lru_cache(maxsize=4096)
def passes(program: str) -> bool:
    """Whether a program with its tests runs to its end; the last 4,096 programs are remembered, as the reference of a
    search is compared again and again."""
    return run_program(program).passed
