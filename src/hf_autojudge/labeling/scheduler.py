"""Many searches at once: each a generator that asks, all answered together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from hf_autojudge.labeling.predictions import Ask, Reader

Result = TypeVar("Result")


@dataclass(frozen=True)
class Compute:
    """A question that needs no model, such as whether two answers have the same outcome: `function()`."""

    function: Callable[[], Any]


Search = Generator[Ask | Compute, Any, Result]
"""A search of one prompt. It yields a question, is sent the [`Reply`](hf_autojudge.labeling.predictions.Reply) or what
the function returned, and in the end returns its result."""


def run_together(
    searches: Iterable[Search[Result]], readers: Mapping[str, Reader], threads: int = 0
) -> Iterator[tuple[int, Result]]:
    """Run searches, as many at a time as the readers have places; a finished one is replaced at once.

    All questions to a model that are open at the same time go through its passes together. The draft, which is cheap,
    is asked until every search waits for the target, so that the target's batches stay full.

    Args:
        searches (iterable of generators): One for each prompt; each is started when a place is free.
        readers (`Mapping[str, Reader]`): By the name of the model.
        threads (`int`, *optional*, defaults to `0`): Threads for [`Compute`]; 0 computes in this thread, at once.

    Yields:
        The number of a search, from 0, and its result, as each is done.
    """
    waiting = enumerate(searches)
    free = list(range(min(reader.texts for reader in readers.values())))[::-1]
    running: dict[int, tuple[int, Search[Result]]] = {}  # by place
    asks: dict[int, Ask] = {}
    computing: dict[Future, int] = {}
    done: list[tuple[int, Result]] = []

    with ThreadPoolExecutor(max(1, threads)) as pool:

        def go_on(place: int, reply: Any) -> None:
            number, search = running[place]
            try:
                question = search.send(reply)
                while isinstance(question, Compute) and not threads:
                    question = search.send(question.function())
            except StopIteration as end:
                del running[place]
                free.append(place)
                done.append((number, end.value))
                return
            if isinstance(question, Compute):
                computing[pool.submit(question.function)] = place
            else:
                asks[place] = question

        try:
            while True:
                while free and (following := next(waiting, None)) is not None:
                    place = free.pop()
                    running[place] = following
                    go_on(place, None)
                yield from done
                done.clear()
                if not running:
                    return
                finished = wait(computing, timeout=0 if asks else None, return_when=FIRST_COMPLETED).done
                for future in finished:
                    go_on(computing.pop(future), future.result())
                if finished:
                    continue
                model = "draft" if any(ask.model == "draft" for ask in asks.values()) else "target"
                batch = {place: asks.pop(place) for place in list(asks) if asks[place].model == model}
                with torch.inference_mode():
                    replies = readers[model].read(batch)
                for place, reply in replies.items():
                    go_on(place, reply)
        finally:
            for future in computing:
                future.cancel()
