"""Figures to TensorBoard, Weights & Biases and the like, through transformers' own callbacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.integrations import get_reporting_integration_callbacks

from hf_autojudge.training.arguments import JudgeTrainingArguments


class Reporter:
    """Passes figures to transformers' callbacks as its `Trainer` does (checked with transformers 5.17 and 5.23).

    Args:
        args ([`JudgeTrainingArguments`]): Names the services in `report_to`.
        callbacks (`Sequence[TrainerCallback]`): Further callbacks; `on_train_begin`, `on_log` and `on_train_end` are
            called.
        model (`torch.nn.Module`): Passed to the callbacks.

    Raises:
        ValueError: If a service is unknown.
        ImportError: If a service's package is not installed.
    """

    def __init__(self, args: JudgeTrainingArguments, callbacks: Sequence[TrainerCallback], model: Any) -> None:
        self._args: Any = args
        self._model = model
        try:
            services = [callback() for callback in get_reporting_integration_callbacks(args.report_to)]
        except RuntimeError as error:
            raise ImportError(f"report_to={args.report_to!r} needs another package: {error}") from error
        self._callbacks = [*services, *callbacks]
        self._state = TrainerState()
        self._control = TrainerControl()
        self._is_open = False

    @contextmanager
    def run(self) -> Iterator[None]:
        """The callbacks' run, begun and ended; inside another one nothing is begun or ended."""
        if self._is_open:
            yield
            return
        self._is_open = True
        self._call("on_train_begin")
        try:
            yield
        finally:
            self._is_open = False
            self._call("on_train_end")

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Report figures at a step."""
        self._state.global_step = step
        self._state.log_history.append(figures | {"step": step})
        self._call("on_log", logs=dict(figures))

    def _call(self, event: str, **values: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(self._args, self._state, self._control, model=self._model, **values)
