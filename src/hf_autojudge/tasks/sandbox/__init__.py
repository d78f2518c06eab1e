"""Runs programs that models wrote, contained."""

from hf_autojudge.tasks.sandbox.program import ProgramResult, run_program

__all__ = ["ProgramResult", "run_program"]
