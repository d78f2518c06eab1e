"""Writing an answer to its end in few passes: earlier texts propose its next tokens, a pass verifies them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from hf_autojudge.labeling.noise import Noise
from hf_autojudge.labeling.predictions import Ask, Reply

WIDEST = 32  # tokens proposed for one pass
FIRST = 6  # at the start, and after a pass that took none
REALIGN = (3, 2, 1)  # last tokens that must agree for a text to go on as an earlier one did; the longest first


@dataclass(frozen=True)
class Limits:
    """Where an answer ends.

    Attributes:
        prompt_length (`int`): Tokens.
        max_length (`int`): Tokens, the prompt's counted.
        ends (`frozenset[int]`): End tokens.
    """

    prompt_length: int
    max_length: int
    ends: frozenset[int]

    def finished(self, text: Sequence[int]) -> bool:
        """Whether an answer has ended: by an end token, or by its length."""
        return len(text) >= self.max_length or (len(text) > self.prompt_length and text[-1] in self.ends)


def finish(
    text: Sequence[int],
    hint: Sequence[int],
    limits: Limits,
    noise: Noise | None = None,
    enough: Callable[[list[int]], bool] | None = None,
) -> Generator[Ask, Reply, list[int]]:
    """Let the target write on to the answer's end, greedily, or drawing by `noise`.

    After a swap the target mostly writes what it wrote before. So an earlier text proposes the next tokens, and where
    the two have parted, what followed the last tokens before: in that text, re-aligned, or in this one (prompt lookup
    decoding, Saxena 2023). Only the target's own choices are kept: the proposals change the number of passes, not the
    answer.

    Args:
        text (`Sequence[int]`): The prompt, and what is written already.
        hint (`Sequence[int]`): An earlier text of the same prompt.
        limits ([`Limits`])
        noise ([`Noise`], *optional*): Draw tokens; without it they are the argmax.
        enough (`Callable[[list[int]], bool]`, *optional*): Whether the text so far is all that is wanted.

    Returns:
        The finished text, prompt included.
    """
    text = list(text)
    source: Sequence[int] = hint
    at: int | None = len(text)  # where the source goes on, while it agrees
    width = FIRST
    while not limits.finished(text) and not (enough is not None and enough(text)):
        if at is None:
            source, at = _realigned(text, hint)
        guess = list(source[at : at + min(width, limits.max_length - len(text) - 1)])
        reply = yield Ask("target", text + guess, len(guess) + 1, noise)
        for taken, token in enumerate(reply.choices):
            text.append(token)
            if limits.finished(text) or token not in guess[taken : taken + 1]:
                break
        at += taken + 1
        if not guess or list(source[at - 1 : at]) != text[-1:]:
            at = None
        width = min(WIDEST, 2 * width) if taken == len(guess) else FIRST
    return text


def _realigned(text: list[int], hint: Sequence[int]) -> tuple[Sequence[int], int]:
    """An earlier text and where in it the last tokens of `text` end: in the hint the place nearest to the end of
    `text`, in `text` itself the latest. At the text's end, where nothing follows, if there is none."""
    hint = list(hint)
    for n in REALIGN:
        tail = text[-n:]
        ends = [i + n for i in range(len(hint) - n) if hint[i : i + n] == tail]
        if ends:
            return hint, min(ends, key=lambda end: abs(end - len(text)))
        for i in range(len(text) - n - 1, -1, -1):
            if text[i : i + n] == tail:
                return text, i + n
    return text, len(text)
