"""Progress of long runs, on standard error: a bar on a terminal, elsewhere a line every 30 seconds."""

from __future__ import annotations

import math
import sys
import threading
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
        terminal = sys.stderr.isatty()
        bar = "{bar:20}| " if terminal else ""
        super().__init__(
            desc=description,
            total=total,
            initial=initial,
            disable=disable,
            mininterval=0.1 if terminal else math.inf,  # lines come by the clock, also while a model computes
            miniters=0,
            smoothing=0,
            bar_format=f"{{desc}}: {{percentage:3.0f}}% {bar}{{n:.4g}}/{{total:.4g}} {unit}"
            " [{elapsed}, {remaining} left{postfix}]",
        )
        self._closed = threading.Event()
        if not terminal and not disable:
            threading.Thread(target=self._show_regularly, daemon=True).start()

    def _show_regularly(self) -> None:
        while not self._closed.wait(LINE_INTERVAL):
            self.refresh()

    def close(self) -> None:
        """End the bar, or the lines."""
        self._closed.set()
        super().close()

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
