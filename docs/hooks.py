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
        if parameter.param_type_name == "argument":
            names = [parameter.name.upper()]
        else:
            names = [*parameter.opts, *parameter.secondary_opts]
        default = parameter.default
        if isinstance(parameter.show_default, str):
            default = parameter.show_default
        elif parameter.required:
            default = "required"
        elif default is False and not parameter.secondary_opts:
            default = None
        rows.append((" / ".join(f"`{name}`" for name in names), _value(default), parameter.help or ""))
    return _table(("option", "default", "meaning"), rows)


def arguments_table() -> str:
    """The fields of `JudgeTrainingArguments`, as Markdown."""
    from hf_autojudge.training import JudgeTrainingArguments

    return _table(
        ("field", "default", "meaning"),
        [
            (f"`{field.name}`", _value(field.default), field.metadata["help"])
            for field in dataclasses.fields(JudgeTrainingArguments)
        ],
    )


def _value(default: Any) -> str:
    return "" if default is None else f"`{default}`"


def _table(header: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> str:
    lines = [header, ("---", "---", "---"), *((name, default, _text(meaning)) for name, default, meaning in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(text: str) -> str:
    """Escape what Markdown would take for HTML or the end of a cell, except in code."""
    pieces = re.split("(`[^`]*`)", " ".join(text.split()).replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces)
