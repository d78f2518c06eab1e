"""The program: its commands, and its errors in one line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from transformers.utils.logging import disable_progress_bar

from hf_autojudge.cli.calibrate_command import calibrate
from hf_autojudge.cli.demo_command import demo
from hf_autojudge.cli.evaluate_command import evaluate
from hf_autojudge.cli.fit_command import fit
from hf_autojudge.cli.generate_command import generate
from hf_autojudge.cli.import_command import import_records
from hf_autojudge.cli.label_command import label
from hf_autojudge.provenance import __version__

app = typer.Typer(
    name="hf-autojudge",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train and use judges for assisted generation that keeps the draft's harmless mismatches.\n\n"
    "The four verbs, in order: **label** (find which mismatches are important) → **fit** (train the head) → "
    "**calibrate** (choose its threshold) → **evaluate** (accuracy against speed). All read and write one folder, "
    "`--output-dir`. Without other models `label` takes the small pair that ships with the package. Start with "
    "`hf-autojudge demo`.",
)


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command()(label)
app.command("import")(import_records)
for command in (fit, calibrate, evaluate, generate, demo):
    app.command()(command)


def main() -> None:
    """Entry point. Bad arguments and inputs print one line and exit with code 2."""
    if not sys.stderr.isatty():
        disable_progress_bar()  # of loading and saving weights
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        print("Interrupted. What is finished is kept: the same command goes on from there.", file=sys.stderr)
        code = 130
    except Exception as error:
        # typer's usage errors have this method; their classes moved between its versions
        usage = getattr(error, "format_message", None)
        if usage is None and not isinstance(error, (ValueError, OSError, ImportError)):
            raise
        message = usage() if usage else str(error)
        print("Error: " + " ".join(message.split()), file=sys.stderr)
        code = 2
    sys.exit(code)
