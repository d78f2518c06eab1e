"""AutoJudge's semi-greedy search for important tokens (arXiv 2504.20039, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from hf_autojudge.decoding.passes import CachedModel, end_tokens, rewindable_cache, unwrap_peft, vocab_size
from hf_autojudge.labeling.record import LabelledPrompt, Mismatch

GUESS = 32  # tokens of an earlier answer verified in one pass
REALIGN = 3  # tokens that must agree for a text to go on in an earlier one

SameOutcome = Callable[[list[int], list[int]], bool]


def find_important_tokens(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompts: Sequence[torch.Tensor | Sequence[int]],
    same_outcome: SameOutcome,
    max_new_tokens: int,
    eos_token_id: int | Sequence[int] | None = None,
) -> list[LabelledPrompt]:
    """Mine labels: swap one mismatching token at a time, let the target finish, and see whether the outcome changes.

    Algorithm 1 of AutoJudge (arXiv 2504.20039): the response starts as the target's greedy answer. At the first
    mismatch at or after the left border (the draft's argmax, teacher-forced on the current response, against the
    response's token) the draft's token is put in and the target finishes greedily. If the outcome is the reference's,
    the mismatch is unimportant and the alternative becomes the current response. The border moves to the next
    position, until no mismatch is left.

    Greedy means the argmax of the models' logits: what a generation config asks for beyond that (a repetition penalty,
    say) is not applied.

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens.
        prompts (sequence of 1-D `torch.LongTensor` or lists of `int`): Token ids.
        same_outcome (`Callable[[list[int], list[int]], bool]`): Whether two answers (new token ids: the reference's,
            the alternative's) have the same outcome.
        max_new_tokens (`int`): Length limit of an answer, counted from the prompt.
        eos_token_id (`int` or sequence of `int`, *optional*): End tokens; an answer ends in one or at the length
            limit. Defaults to those of the target's generation config.

    Returns:
        One [`LabelledPrompt`] for each prompt, in order.

    Raises:
        ValueError: For an empty prompt, a length limit below 1, or models of different vocabularies.
    """
    return list(search_prompts(target, draft, prompts, same_outcome, max_new_tokens, eos_token_id))


def search_prompts(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompts: Sequence[torch.Tensor | Sequence[int]],
    same_outcome: SameOutcome,
    max_new_tokens: int,
    eos_token_id: int | Sequence[int] | None = None,
) -> Iterator[LabelledPrompt]:
    """[`find_important_tokens`], one prompt at a time as each is done."""
    target, draft = unwrap_peft(target), unwrap_peft(draft)
    shared = min(vocab_size(target), vocab_size(draft))
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1; got {max_new_tokens}.")
    if eos_token_id is None:
        eos_token_id = target.generation_config.eos_token_id
    ends = end_tokens(eos_token_id)
    for index, prompt in enumerate(prompts):
        ids = prompt.tolist() if isinstance(prompt, torch.Tensor) else list(prompt)
        if not ids:
            raise ValueError(f"Prompt {index} is empty; pass at least one token.")
        yield _search(target, draft, ids, same_outcome, max_new_tokens, ends, shared)


@torch.no_grad()
def _search(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompt: list[int],
    same_outcome: SameOutcome,
    max_new_tokens: int,
    ends: frozenset[int],
    shared_vocabulary: int,
) -> LabelledPrompt:
    limits = (len(prompt), max_new_tokens, ends)
    writer, reader = _Writer(_CachedText(target), *limits), _CachedText(draft, shared_vocabulary)
    sketch = _Writer(reader, *limits).finish(prompt, hint=[])  # cheap, and often much like the target's answer
    text = writer.finish(prompt, hint=sketch)
    reference = text[len(prompt) :]
    mismatches = []
    border = len(prompt)
    while (found := _first_mismatch(reader, text, border)) is not None:
        position, token = found
        alternative = writer.finish([*text[:position], token], hint=text)
        important = not same_outcome(reference, alternative[len(prompt) :])
        mismatches.append(Mismatch(position - len(prompt), text[position], token, important))
        if not important:
            text = alternative
        border = position + 1
    return LabelledPrompt(prompt, mismatches, reference, text[len(prompt) :])


class _CachedText:
    """A model whose cache follows one text: what a new text shares with the last one is not computed again.

    `vocabulary` cuts off logits of tokens that the other model lacks.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: int | None = None) -> None:
        self.passes = CachedModel(model, rewindable_cache(model))
        self.vocabulary = vocabulary
        self.text: list[int] = []  # what the cache holds

    def choices(self, text: list[int], rows: int) -> list[int]:
        """The model's argmax after each of the last `rows` tokens of `text`."""
        shared = 0
        for ours, theirs in zip(self.text, text[: len(text) - rows], strict=False):
            if ours != theirs:
                break
            shared += 1
        self.passes.rollback(self.passes.length - shared)
        model = self.passes.model
        new = torch.tensor([text[shared:]], device=model.device).clamp(max=vocab_size(model) - 1)
        logits, _ = self.passes.forward(new, rows)
        self.text = list(text)
        return logits[0, :, : self.vocabulary].argmax(-1).tolist()


def _first_mismatch(reader: _CachedText, text: list[int], border: int) -> tuple[int, int] | None:
    """First position at or after `border` where the reader would have written another token, and that token."""
    if border >= len(text):
        return None
    for position, choice in enumerate(reader.choices(text[:-1], len(text) - border), start=border):
        if choice != text[position]:
            return position, choice
    return None


class _Writer:
    """A model that finishes answers greedily."""

    def __init__(self, model: _CachedText, prompt_length: int, max_new_tokens: int, ends: frozenset[int]) -> None:
        self.model = model
        self.prompt_length = prompt_length
        self.max_length = prompt_length + max_new_tokens
        self.ends = ends

    def finish(self, text: list[int], hint: list[int]) -> list[int]:
        """Write on, greedily, to an end token or the length limit. An answer that ends in an end token is finished.

        `hint` is an earlier text of the same prompt. After a swap the target mostly writes what it wrote before, so
        the earlier text proposes the next tokens and one pass verifies them: the same tokens in fewer passes.
        """
        text = list(text)
        at = len(text)  # where the hint goes on
        while not self._finished(text):
            guess = hint[at : at + min(GUESS, self.max_length - len(text) - 1)]
            choices = self.model.choices(text + guess, len(guess) + 1)
            n = next(
                (i for i, (token, choice) in enumerate(zip(guess, choices, strict=False)) if token != choice),
                len(guess),
            )
            for token in choices[: n + 1]:
                text.append(token)
                if self._finished(text):
                    break
            at = at + n + 1 if hint[at + n : at + n + 1] == choices[n : n + 1] else _realigned(text, hint, at + n + 1)
        return text

    def _finished(self, text: list[int]) -> bool:
        return len(text) >= self.max_length or (len(text) > self.prompt_length and text[-1] in self.ends)


def _realigned(text: list[int], hint: list[int], otherwise: int) -> int:
    """Where in `hint` the last tokens of `text` end, nearest to the end of `text`; `otherwise` if nowhere."""
    tail = text[-REALIGN:]
    ends = (i + REALIGN for i in range(len(hint) - REALIGN) if hint[i : i + REALIGN] == tail)
    return min(ends, key=lambda end: abs(end - len(text)), default=otherwise)
