"""What mkdocs fills in, so that nothing is written twice: the options of a command, the fields of the trainer's
arguments, and the picture of the embedded pair's judge."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from docstrings import link_names  # mkdocs looks for it beside this file
from mkdocs.structure.files import File, Files

PICTURE = Path(__file__).parents[1] / "hub_cards" / "embedded-pair" / "frontier.png"


def on_files(files: Files, *, config: Any) -> Files:
    """Add the picture to the site."""
    files.append(File.generated(config, "frontier.png", abs_src_path=str(PICTURE)))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Fill in `<!-- options: label -->` and `<!-- arguments -->`, and link names such as [`LabelStore`]."""
    markdown = re.sub(r"<!-- options: (\w+) -->", lambda found: options_table(found[1]), markdown)
    markdown = re.sub("<!-- arguments -->", lambda _: arguments_table(), markdown)
    return link_names(markdown)


def options_table(verb: str) -> str:
    """The arguments and options of a command, as Markdown."""
    from typer.main import get_command

    from hf_autojudge.cli.app import app

    command: Any = get_command(app)
    rows = []
    for parameter in command.commands[verb].params:
        is_argument = parameter.param_type_name == "argument"
        names = [parameter.name.upper()] if is_argument else [*parameter.opts, *parameter.secondary_opts]
        default = None if parameter.default is False else parameter.default
        if parameter.required:
            default = "required"
        rows.append((" / ".join(f"`{name}`" for name in names), default, parameter.help))
    return _table("option", rows)


def arguments_table() -> str:
    """The fields of `JudgeTrainingArguments`, as Markdown."""
    from hf_autojudge.training import JudgeTrainingArguments

    fields = dataclasses.fields(JudgeTrainingArguments)
    return _table("field", [(f"`{field.name}`", field.default, field.metadata["help"]) for field in fields])


def _table(name: str, rows: list[tuple[str, Any, str]]) -> str:
    lines = [f"| {name} | default | meaning |", "| --- | --- | --- |"]
    for names, default, text in rows:
        meaning, described = _split_default(text)
        shown = described if default is None else f"`{default}`"
        lines.append(f"| {names} | {_escape(shown)} | {_escape(meaning)} |")
    return "\n".join(lines)


def _split_default(text: str) -> tuple[str, str]:
    """A help text without its `Default: ...`, and that default."""
    found = re.search(r" ?Default: (.+?)\.(?= [A-Z]|$)", text)
    return (text[: found.start()] + text[found.end() :], found[1]) if found else (text, "")


def _escape(text: str) -> str:
    """Escape what Markdown would take for HTML or the end of a cell, except in code."""
    pieces = re.split("(`[^`]*`)", " ".join(text.split()).replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces)
