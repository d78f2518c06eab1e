"""Options of a command from the fields of dataclasses, so that each is described once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from inspect import Parameter
from typing import Annotated, Any, get_type_hints

import typer

TYPES = {"report_to": str}  # where the type of a field is none that an option can have


class Group:
    """Options from a dataclass whose fields' metadata hold their `help`.

    Args:
        arguments (`type`): The dataclass.
        chosen (`str`): Fields that become options; without any and without `renamed`, all.
        renamed (`str`): Further ones, as `option="field"`.
    """

    def __init__(self, arguments: type, *chosen: str, **renamed: str) -> None:
        self.arguments = arguments
        self.fields = {f.name: f for f in fields(arguments)}
        self.options = {field: field for field in chosen} | renamed or {field: field for field in self.fields}

    def parameters(self) -> Iterator[Parameter]:
        """The options, for a command's signature."""
        types = get_type_hints(self.arguments) | TYPES
        for option, name in self.options.items():
            field = self.fields[name]
            annotation: Any = Annotated[types[name], _option(option, field, types[name])]
            yield Parameter(option, Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)

    def take(self, values: dict[str, Any]) -> Any:
        """Make an instance of the dataclass from the values of its options, which are removed.

        Raises:
            ValueError: If the dataclass refuses one; the message names the option.
        """
        given = {field: values.pop(option) for option, field in self.options.items()}
        try:
            return self.arguments(**given)
        except ValueError as error:
            message = str(error)
            for option, field in self.options.items():
                if message.startswith(f"{field} "):
                    message = f"--{option.replace('_', '-')}{message.removeprefix(field)}"
            raise ValueError(message) from error


def _option(option: str, field: Field, kind: Any) -> Any:
    text = field.metadata["help"]
    if field.default is False:  # a switch, without `--no-...`
        return typer.Option(f"--{option.replace('_', '-')}", help=f"{text} Default: off.", show_default=False)
    return typer.Option(help=f"{text} Repeatable." if "list" in str(kind) else text)


def with_options(**groups: Group) -> Callable[[Callable], Callable]:
    """Give a command the options of each group; the parameter of the group's name gets the instance."""

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            command(**{name: group.take(values) for name, group in groups.items()}, **values)

        own = inspect.signature(command, eval_str=True).parameters.values()
        required = [p for p in own if p.default is Parameter.empty and p.name not in groups]
        optional = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in own if p.default is not Parameter.empty]
        parameters = [*required, *(p for group in groups.values() for p in group.parameters()), *optional]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate
