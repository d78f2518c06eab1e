"""The command line, `hf-autojudge` or `python -m hf_autojudge.cli`."""

from hf_autojudge.cli.app import main

__all__ = ["main"]
