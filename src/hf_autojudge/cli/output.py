"""What the commands print."""

from __future__ import annotations

from rich.console import Console

console = Console(width=max(116, Console().width))  # the frontier's table needs 116 columns
notes = Console(stderr=True)  # what is no result
