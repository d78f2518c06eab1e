"""Continuous batching of searches: each is a generator of requests, and open requests share the models' passes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from hf_autojudge.labeling.predictions import PredictionRequest, Predictor

Result = TypeVar("Result")


@dataclass(frozen=True)
class Compute:
    """A request that needs no model, such as whether two answers have the same outcome: `function()`."""

    function: Callable[[], Any]


Search = Generator[PredictionRequest | Compute, Any, Result]
"""A search over one prompt. It yields a request, is sent the [`Prediction`](hf_autojudge.labeling.predictions) or what
the function returned, and in the end returns its result."""


def run_searches(
    searches: Iterable[Search[Result]],
    predictors: Mapping[str, Predictor],
    threads: int = 0,
    after_pass: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Result]]:
    """Run searches, as many at a time as the predictors have slots; a finished one is replaced immediately.

    All requests to a model that are open at the same time share its passes. The draft, which is cheap, runs until
    every search waits for the target, so that the target's batches stay full. [`Compute`] requests run in `threads`
    threads, or with 0 in this one. `after_pass` is called after each pass.

    Yields:
        The number of a search, from 0, and its result, as each finishes.
    """
    waiting = enumerate(searches)
    free = list(range(min(predictor.num_sequences for predictor in predictors.values())))[::-1]
    running: dict[int, tuple[int, Search[Result]]] = {}  # by slot
    requests: dict[int, PredictionRequest] = {}
    computing: dict[Future, int] = {}
    finished: list[tuple[int, Result]] = []

    with ThreadPoolExecutor(max(1, threads)) as pool:

        def resume(slot: int, reply: Any) -> None:
            number, search = running[slot]
            try:
                request = search.send(reply)
                while isinstance(request, Compute) and not threads:
                    request = search.send(request.function())
            except StopIteration as end:
                del running[slot]
                free.append(slot)
                finished.append((number, end.value))
                return
            if isinstance(request, Compute):
                computing[pool.submit(request.function)] = slot
            else:
                requests[slot] = request

        try:
            while True:
                while free and (following := next(waiting, None)) is not None:
                    slot = free.pop()
                    running[slot] = following
                    resume(slot, None)
                yield from finished
                finished.clear()
                if not running:
                    return
                computed = wait(computing, timeout=0 if requests else None, return_when=FIRST_COMPLETED).done
                for future in computed:
                    resume(computing.pop(future), future.result())
                if computed:
                    continue
                model = "draft" if any(request.model == "draft" for request in requests.values()) else "target"
                batch = {slot: requests.pop(slot) for slot in list(requests) if requests[slot].model == model}
                with torch.inference_mode():
                    predictions = predictors[model].predict(batch)
                for slot, prediction in predictions.items():
                    resume(slot, prediction)
                after_pass()
        finally:
            for future in computing:
                future.cancel()
