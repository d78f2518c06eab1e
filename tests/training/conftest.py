"""The toy task of the evaluation's tests."""

from tests.evaluation.conftest import head, task, tokenizer  # noqa: F401
