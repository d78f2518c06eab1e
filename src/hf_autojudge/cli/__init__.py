"""The command line, `hf-autojudge` or `python -m hf_autojudge.cli`. Needs `pip install hf_autojudge[demo]`."""

try:
    import rich  # noqa: F401
    import tqdm  # noqa: F401
    import typer  # noqa: F401
except ImportError as error:
    raise SystemExit(f"The command line needs more packages ({error}): pip install 'hf_autojudge[demo]'") from error

from hf_autojudge.cli.app import main

__all__ = ["main"]
