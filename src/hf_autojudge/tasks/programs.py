"""Tasks whose answers are programs: extracting the code, running it with its tests, and the consent to do so."""

from __future__ import annotations

import ast
import builtins
import os
import re
import symtable
import warnings
from collections.abc import Callable, Collection
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.sandbox.program import run_program

_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?)```[ \t]*(?P<language>\w*)[^`\n]*\n"  # may be an item of a list
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


def program_task(
    name: str,
    prompt: Callable[[Sample, PreTrainedTokenizerBase], list[int]],
    program: Callable[[Sample, str], str],
    load: Callable[[str, int | None], list[Sample]],
    max_new_tokens: int,
    allow_code_execution: bool,
) -> Task:
    """A [`Task`] whose outcome is whether `program(sample, answer)`, the answer's code and the sample's tests, runs to
    its end.

    Raises:
        ValueError: If running programs is allowed neither by `allow_code_execution` nor by `HF_ALLOW_CODE_EVAL=1` in
            the environment (as for `code_eval` of the `evaluate` library).
    """
    if not allow_code_execution and os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        raise ValueError(
            f"The task {name} runs programs that models wrote (in a sandbox, see tasks/sandbox/program.py); allow it "
            "with allow_code_execution=True (on the command line: --allow-code-execution) or the environment variable "
            "HF_ALLOW_CODE_EVAL=1."
        )

    def correct(sample: Sample, answer: str) -> bool:
        return passes(program(sample, answer))

    def same_outcome(sample: Sample, reference: str, answer: str) -> bool:
        return reference == answer or correct(sample, reference) == correct(sample, answer)

    return Task(name, prompt, same_outcome, load, max_new_tokens, correct=correct, threads=os.cpu_count() or 1)


def fenced_code(text: str, names: Collection[str]) -> str | None:
    """The code of an answer: the last block between ``` fences (marked as Python or unmarked) that defines one of
    `names`, because models correct themselves and then show how to use the code; else the first block; `None` without
    blocks.

    Functions, classes, constants and imports that it lacks are taken from earlier blocks.
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
            else:  # perhaps the body of a function, which keeps its indentation
                blocks.append(_dedent(block["code"], len(block["indent"])))
    return _with_helpers(blocks[chosen], blocks[:chosen], names) if blocks else None


def join(*parts: str) -> str:
    """Join sources into one program. Imports from `__future__` are moved to its beginning, as Python requires."""
    first = []
    for part in parts:
        match = _FIRST_LINES.match(part)
        first.append(match[0] if match and "__future__" in match[0] else "")
    return "".join(first) + "\n".join(part[len(lines) :] for part, lines in zip(parts, first, strict=True))


def _dedent(code: str, max_indent: int) -> str:
    """Remove the indentation that all lines share, at most `max_indent` characters of it."""
    lines = code.split("\n")
    shared = os.path.commonprefix([line[: len(line) - len(line.lstrip(" \t"))] for line in lines if line.strip()])
    return "\n".join(line[min(max_indent, len(shared)) :] for line in lines)


def _with_helpers(code: str, earlier: list[str], names: Collection[str]) -> str:
    """Put before `code` the definitions of earlier blocks that it or `names` needs, the last one of each name. Nothing
    else of the earlier blocks is run, since they may contain mistakes that `code` corrects."""
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
    """The global names that the code defines and those that it uses; `None` if it is not valid Python."""
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
    """Whether a program with its tests runs to its end. The last 4,096 results are cached, because labelling compares
    the same reference many times."""
    return run_program(program).passed
