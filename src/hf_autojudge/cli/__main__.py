"""`python -m hf_autojudge.cli`."""

from hf_autojudge.cli import main

main()
