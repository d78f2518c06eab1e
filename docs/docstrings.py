"""How docstrings reach the API pages: their dialect is that of transformers, mkdocstrings reads Google's.

Loaded by mkdocstrings (an extension of griffe) and by `hooks.py`.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

import griffe

PACKAGES = ("", "decoding", "evaluation", "hub", "judges", "labeling", "runners", "tasks", "training")
NAME = re.compile(r"\[`([A-Za-z_]\w*)([\w.]*)`\](?:\(hf_autojudge[\w.]*\))?(?![\[(])")
# An entry of Args or Attributes: names, their type in parentheses, the description and its further lines
ENTRY = re.compile(
    r"^    (\*{0,2}\w+(?:, \w+)*)(?: \(((?:`[^`]*`|[^`()])*)\):?|:)( .*)?((?:\n {8}.*|\n(?=\n {8}))*)$", re.MULTILINE
)
OPTIONAL = re.compile(r",?\s*\*optional\*(?:,\s+defaults\s+to\s+`[^`]*`)?")


class TransformersDialect(griffe.Extension):
    """Makes of ``name ([`Type`], *optional*, defaults to `x`): ...`` the form ``name (Type): ...``; the default is in
    the signature."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        _convert_all(pkg)


def _convert_all(item: griffe.Object) -> None:
    if item.docstring is not None:
        item.docstring.value = link_names(ENTRY.sub(_google_entry, item.docstring.value))
    for member in item.members.values():
        if not member.is_alias:
            _convert_all(member)


def _google_entry(entry: re.Match[str]) -> str:
    names, kind, description, further = (group or "" for group in entry.groups())
    kind = re.sub(r"\[`([\w.]+)`\]", r"\1", OPTIONAL.sub("", kind)).replace("`", "")
    # griffe strips parentheses from the end of an attribute's type, but not from before a space of no width
    kind = f" ({' '.join(kind.split())}\u200b)" if kind else ""
    return "\n".join(f"    {name}{kind}:{description}{further}" for name in names.split(", "))


def link_names(text: str) -> str:
    """Make of a public name in brackets, [`LabelStore`], a link to its place in the API pages, and of every other one
    plain code."""

    def link(name: re.Match[str]) -> str:
        path, text = _paths().get(name[1]), name[1] + name[2]
        return f'<autoref optional identifier="{path}{name[2]}"><code>{text}</code></autoref>' if path else f"`{text}`"

    return NAME.sub(link, text)


@cache
def _paths() -> dict[str, str]:
    """Where each public name is defined."""
    paths = {}
    for package in PACKAGES:
        module = importlib.import_module(f"hf_autojudge.{package}".rstrip("."))
        for name in module.__all__:
            item = getattr(module, name)
            paths[name] = f"{getattr(item, '__module__', module.__name__)}.{name}"
    return paths
