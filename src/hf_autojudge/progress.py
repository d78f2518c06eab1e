"""Progress of long runs, on standard error: a bar on a terminal, elsewhere a line every 30 seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, Any

from tqdm import tqdm

LINE_INTERVAL = 30  # seconds between lines where there is no terminal


class Progress(tqdm):
    """A progress bar whose figures are set, not added up.

    Args:
        description (`str`): What is being done.
        total (`float`): When it is done, in `unit`.
        unit (`str`): For instance `"prompts"`.
        initial (`float`, *optional*, defaults to `0`): What an earlier run has done; the time left does not count on
            its speed.
        disable (`bool`, *optional*, defaults to `False`): Show nothing.
    """

    def __init__(self, description: str, total: float, unit: str, initial: float = 0, disable: bool = False) -> None:
        bar = "{bar:20}| " if sys.stderr.isatty() else ""
        super().__init__(
            desc=description,
            total=total,
            initial=initial,
            disable=disable,
            mininterval=0.1 if sys.stderr.isatty() else LINE_INTERVAL,
            maxinterval=LINE_INTERVAL,
            miniters=0,
            smoothing=0,
            bar_format=f"{{desc}}: {{percentage:3.0f}}% {bar}{{n:.4g}}/{{total:.4g}} {unit}"
            " [{elapsed}, {remaining} left{postfix}]",
        )

    def set(self, done: float, facts: str = "") -> None:
        """Show that `done` of the total are done, with further figures."""
        if facts:
            self.set_postfix_str(facts, refresh=False)
        self.update(done - self.n)

    @staticmethod
    def status_printer(file: IO[str]) -> Callable[[str], Any]:
        """tqdm's function that shows a status: where there is no terminal, on a new line."""
        if file.isatty():
            return tqdm.status_printer(file)
        return lambda status: print(status, file=file, flush=True) if status.strip() else None
