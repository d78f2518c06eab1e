"""Where each token of a judged answer comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.decoding import JudgeStats
from hf_autojudge.judges import AutoJudgeHead, Judge, Window

Label = Literal["match", "accepted", "corrected", "bonus"]
Candidate = tuple[int, int, bool, float | None]  # the draft's token, the target's, whether accepted, importance


@dataclass(frozen=True)
class TokenTrace:
    """One emitted token.

    Attributes:
        token (`int`): Its id.
        text (`str`): What it adds to the decoded answer; empty if it ends in the middle of a character.
        label (`str`): `"match"` (both models chose it), `"accepted"` (the draft's, a mismatch that the judge
            accepted), `"corrected"` (the target's, in place of a rejected draft token) or `"bonus"` (the target's,
            after all candidates of the round).
        other (`str`, *optional*): The other model's choice: the target's for an accepted token, the draft's for a
            corrected one.
        importance (`float`, *optional*): Of the mismatch, if the judge is an [`AutoJudgeHead`].
    """

    token: int
    text: str
    label: Label
    other: str | None = None
    importance: float | None = None


@dataclass(frozen=True)
class AnswerTrace:
    """A judged answer, token by token.

    Attributes:
        tokens (`list[TokenTrace]`)
        stats ([`JudgeStats`]): Of the call.
    """

    tokens: list[TokenTrace]
    stats: JudgeStats


class _RecordingJudge:
    """A judge that decides as another one does and records the candidates of each round."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.reads = judge.reads
        self.threshold = judge.threshold
        self.num_assistant_tokens = judge.num_assistant_tokens
        self.check_models = judge.check_models
        self.rounds: list[list[Candidate]] = []

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        accepted = self.judge.accept(window, threshold)
        columns = [column[0].tolist() for column in (window.draft_tokens, window.target_tokens, accepted)]
        importance = self.judge.importance(window)[0] if isinstance(self.judge, AutoJudgeHead) else None
        columns.append([None] * len(columns[0]) if importance is None else importance.tolist())
        self.rounds.append(list(zip(*columns, strict=True)))
        return accepted


def trace_answer(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    judge: Judge,
    *,
    max_new_tokens: int,
    num_assistant_tokens: int | None = None,
    judge_threshold: float | None = None,
) -> AnswerTrace:
    """Answer one prompt greedily with a judge, and report where each token comes from.

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        prompt_ids (`Sequence[int]`): Token ids.
        judge ([`Judge`]): Decides which mismatches are accepted.
        max_new_tokens (`int`): Maximum number of new tokens.
        num_assistant_tokens (`int`, *optional*): Candidate tokens per round; see [`JudgedDecoding`].
        judge_threshold (`float`, *optional*): Overrides the judge's own, in [0, 1].
    """
    if isinstance(judge, torch.nn.Module):
        judge.to(target.device)  # `generate` would move it, but does not see it
    recording = _RecordingJudge(judge)
    ids = torch.tensor([list(prompt_ids)], device=target.device)
    options = {} if num_assistant_tokens is None else {"num_assistant_tokens": num_assistant_tokens}
    output = target.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        assistant_model=draft,
        tokenizer=tokenizer,
        assistant_tokenizer=tokenizer,  # the vocabularies may be padded differently
        judge=recording,
        judge_threshold=judge_threshold,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        return_dict_in_generate=True,
        **options,
    )
    new = output.sequences[0, ids.shape[1] :].tolist()
    texts = token_texts(tokenizer, new)
    tokens = [
        TokenTrace(token, text, label, None if other is None else tokenizer.decode([other]), importance)
        for token, text, (label, other, importance) in zip(new, texts, _replay(recording.rounds), strict=False)
    ]
    return AnswerTrace(tokens, output.judge_stats)


def _replay(rounds: list[list[Candidate]]) -> Iterator[tuple[Label, int | None, float | None]]:
    """Label, the other model's token and importance of each emitted token, from the rounds' decisions; endless."""
    for candidates in rounds:
        for drafted, chosen, accepted, importance in candidates:
            if drafted == chosen:
                yield "match", None, None
            elif accepted:
                yield "accepted", chosen, importance
            else:
                yield "corrected", drafted, importance
                break  # the round ends here
        else:
            yield "bonus", None, None
    while True:  # a last token at the maximum length follows no candidate, so no judge was asked
        yield "bonus", None, None


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """What each token adds to the decoded text, special tokens excluded; the pieces joined are that text."""
    pieces, decoded = [], ""
    for i in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:i], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if i < len(ids) and text.endswith("\ufffd"):  # the last character lacks bytes that later tokens hold
            text = decoded
        pieces.append(text[len(decoded) :])
        decoded = text
    return pieces
