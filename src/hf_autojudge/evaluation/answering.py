"""Answer questions of a task with the strategies of a frontier, and check the outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.evaluation.answers import Answer
from hf_autojudge.evaluation.decoder import DecodedAnswer, Decoder
from hf_autojudge.evaluation.metrics import load_metric
from hf_autojudge.evaluation.run import Run
from hf_autojudge.evaluation.schedule import Block
from hf_autojudge.evaluation.strategies import DecodingStrategy
from hf_autojudge.runners.base import unwrap_peft

Result = TypeVar("Result")


class Answerer:
    """A pair of models that answers blocks of questions: the one of a local run, or of one worker in a cluster."""

    def __init__(
        self, target: PreTrainedModel, draft: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, run: Run
    ) -> None:
        pair = unwrap_peft(target), unwrap_peft(draft)
        self._decoder = Decoder(*pair, run.judges, tokenizer, run.draft_length, run.max_new_tokens)
        self._tokenizer, self._run, self._metric = tokenizer, run, load_metric()
        self._warm: set[DecodingStrategy] = set()

    def answer(self, block: Block) -> Iterator[list[Answer]]:
        """The answers of each strategy of a block to its questions."""
        prompts = [self._run.prompts[question] for question in block.questions]
        if block.timed:  # not before allocators, compilers and caches have settled
            for strategy in block.strategies:
                if strategy not in self._warm:
                    self._decoder.decode(strategy, prompts)
                    self._warm.add(strategy)
        for strategy in block.strategies:
            decoded, seconds = timed(partial(self._decoder.decode, strategy, prompts), self._decoder.target.device)
            yield self._checked(strategy, block.questions, decoded, round(seconds, 5) if block.timed else None)

    def _checked(
        self,
        strategy: DecodingStrategy,
        questions: Sequence[int],
        decoded: Sequence[DecodedAnswer],
        seconds: float | None,
    ) -> list[Answer]:
        texts = [self._tokenizer.decode(answer.tokens, skip_special_tokens=True) for answer in decoded]
        task, samples = self._run.task, self._run.samples
        scores = self._metric.compute(
            predictions=texts,
            references=[str(question) for question in questions],
            is_correct=lambda text, question: task.is_correct(text, samples[int(question)]),
            threads=task.threads,
        )
        ends = self._decoder.end_tokens
        return [
            Answer(
                strategy.judge,
                strategy.threshold,
                question,
                text,
                correct,
                new_tokens=len(answer.tokens),
                target_calls=answer.target_calls,
                capped=int(not answer.tokens or answer.tokens[-1] not in ends),
                histogram=[answer.histogram[n] for n in range(max(answer.histogram, default=-1) + 1)],
                seconds=seconds,
            )
            for question, text, correct, answer in zip(questions, texts, scores["correct"], decoded, strict=True)
        ]


def timed(run: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """What a function returns, and its wall time in seconds, with the work that it left to the device."""
    _synchronize(device)
    start = time.perf_counter()
    result = run()
    _synchronize(device)
    return result, time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
