"""Which questions are answered how: the first ones one at a time and timed, the others in batches."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hf_autojudge.evaluation.answers import AnswerStore
from hf_autojudge.evaluation.strategies import DecodingStrategy


@dataclass(frozen=True)
class Block:
    """Some questions for some strategies, each of which answers them together.

    Attributes:
        questions (`tuple[int, ...]`): Indices of samples.
        strategies (`tuple[DecodingStrategy, ...]`): In the order in which they answer.
        timed (`bool`): Whether to measure the time.
        group (`int`): Blocks of one group ask all strategies about the same questions.
    """

    questions: tuple[int, ...]
    strategies: tuple[DecodingStrategy, ...]
    timed: bool
    group: int


class Schedule:
    """The blocks of a run. With a batch size above 1, a strategy that takes no batches answers only timed questions.

    Args:
        strategies (`Sequence[DecodingStrategy]`)
        num_questions (`int`)
        batch_size (`int`): Number of questions in a batch.
        num_timed (`int`, *optional*): The first questions, which are answered one at a time and timed; by default all
            with a batch size of 1, else at most 16.
        seed (`int`): Of the order of strategies.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(
        self,
        strategies: Sequence[DecodingStrategy],
        num_questions: int,
        batch_size: int,
        num_timed: int | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("num_timed", num_timed)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}.")
        self.strategies = list(strategies)
        self.num_questions = num_questions
        self.batch_size = batch_size
        if num_timed is None:
            num_timed = num_questions if batch_size == 1 else 16
        self.num_timed = min(num_timed, num_questions)
        self._seed = seed

    def questions(self, strategy: DecodingStrategy) -> range:
        """The questions that a strategy answers."""
        one_by_one = self.batch_size > 1 and not strategy.takes_batches
        return range(self.num_timed if one_by_one else self.num_questions)

    def missing(self, store: AnswerStore) -> Iterator[Block]:
        """Blocks of what the store lacks when the iteration begins. Each timed question goes to all strategies, in a
        shuffled order, before the next question begins, so that other load on the machine affects all alike."""
        order = random.Random(self._seed)
        for question in range(self.num_timed):
            shuffled = order.sample(self.strategies, len(self.strategies))
            if lacking := tuple(s for s in shuffled if store.get(s, question, timed=True) is None):
                yield Block((question,), lacking, timed=True, group=question)
        for first in range(self.num_timed, self.num_questions, self.batch_size):
            batch = range(first, first + self.batch_size)
            for strategy in self.strategies:
                asked = self.questions(strategy)
                if unanswered := tuple(q for q in batch if q in asked and store.get(strategy, q) is None):
                    yield Block(unanswered, (strategy,), timed=False, group=first)

    def num_answered(self, store: AnswerStore) -> int:
        """How many questions, from the first, every strategy has answered that is to answer them."""
        counts = []
        for strategy in self.strategies:
            asked = self.questions(strategy)
            answered = len(store.of(strategy, asked))
            counts.append(self.num_questions if answered == len(asked) else answered)
        return min(counts)


def until(blocks: Iterable[Block], seconds: float | None) -> Iterator[Block]:
    """Blocks until that time is over. The first group is always answered, and none is left unfinished."""
    began, group = time.monotonic(), None
    for block in blocks:
        if group not in (None, block.group) and seconds is not None and time.monotonic() - began > seconds:
            return
        group = block.group
        yield block
