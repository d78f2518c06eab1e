"""The command line."""

from hf_autojudge.cli.app import main

__all__ = ["main"]
