"""`python -m hf_autojudge.cli`."""

from hf_autojudge.cli.app import main

main()
