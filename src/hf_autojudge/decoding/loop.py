"""The one loop of judged decoding: `JudgedDecoding` is the callable that `generate(custom_generate=...)` runs."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput

from hf_autojudge.decoding.call import Call, without_full_mask
from hf_autojudge.decoding.candidates import Candidates, CandidateSource
from hf_autojudge.decoding.passes import CachedModel, Passes, unwrap_peft
from hf_autojudge.decoding.processing import process
from hf_autojudge.decoding.sources import DraftOptions, make_source
from hf_autojudge.decoding.stats import JudgeStats, Stopwatch
from hf_autojudge.decoding.stopping import Stopping
from hf_autojudge.decoding.text import Text, on_device
from hf_autojudge.decoding.verifier import (
    Verification,
    accepted_run,
    exact_match,
    judge_test,
    next_token,
    sample,
    speculative_sampling,
)
from hf_autojudge.judges import Judge, Window
from hf_autojudge.judges.base import check_threshold

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer


class JudgedDecoding:
    """Assisted decoding that keeps the mismatches a judge accepts, for
    `model.generate(custom_generate=JudgedDecoding(...))`.

    `generate(judge=...)` makes one of these; use the class itself where `generate` must stay untouched. What
    transformers does not hand to a callable (draft, tokenizers, streamer) is carried here; `num_assistant_tokens`,
    `num_assistant_tokens_schedule`, `assistant_confidence_threshold` and `judge_threshold` are arguments of
    `generate`. For stop strings without `judge=`, pass `stopping_criteria=[StopStringCriteria(tokenizer, strings)]`.

    Args:
        judge ([`Judge`]): Decides which mismatches may stay.
        assistant_model ([`PreTrainedModel`], *optional*): The draft. Without it, the call must name another candidate
            source, such as `prompt_lookup_num_tokens`.
        judge_threshold (`float`, *optional*): Overrides the judge's own, in [0, 1].
        bonus_token (`bool`, *optional*, defaults to `True`): After a fully accepted window, also emit the target's
            next token. `False` is the round of the AutoJudge authors' code.
        tokenizer, assistant_tokenizer ([`PreTrainedTokenizerBase`], *optional*): The target's and the draft's, for a
            draft with another vocabulary.
        streamer ([`BaseStreamer`], *optional*): Receives the prompt, then the tokens of each round.

    Raises:
        TypeError: If `judge` is not a judge.
        ValueError: If `judge_threshold` is not in [0, 1], or the judge has no threshold.
    """

    def __init__(
        self,
        judge: Judge,
        assistant_model: PreTrainedModel | None = None,
        *,
        judge_threshold: float | None = None,
        bonus_token: bool = True,
        tokenizer: PreTrainedTokenizerBase | None = None,
        assistant_tokenizer: PreTrainedTokenizerBase | None = None,
        streamer: BaseStreamer | None = None,
    ) -> None:
        if not isinstance(judge, Judge):
            raise TypeError(
                f"judge= takes an AutoJudgeHead, a rule or another object with the methods of hf_autojudge.Judge; got "
                f"{type(judge).__name__}. To load one from the Hub: AutoJudgeHead.from_pretrained(...)."
            )
        self.judge = judge
        self.draft = None if assistant_model is None else unwrap_peft(assistant_model)
        self.threshold = self._checked_threshold(judge_threshold)
        self.bonus_token = bonus_token
        self.tokenizer = tokenizer
        self.assistant_tokenizer = assistant_tokenizer
        self.streamer = streamer

    def _checked_threshold(self, threshold: float | None) -> float | None:
        if threshold is None:
            return None
        if self.judge.threshold is None:
            raise ValueError(
                f"judge_threshold={threshold} was given, but {self.judge!r} is a rule without a threshold; change "
                "the rule's own arguments instead."
            )
        return check_threshold(threshold)

    @torch.no_grad()
    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        # transformers routes arguments of the call to these by name
        num_assistant_tokens: int | None = None,
        num_assistant_tokens_schedule: str | None = None,
        assistant_confidence_threshold: float | None = None,
        judge_threshold: float | None = None,
        **model_kwargs: Any,
    ) -> torch.Tensor | GenerateDecoderOnlyOutput:
        """Generate. Called by transformers' `generate` with everything prepared.

        Returns:
            `torch.LongTensor` of shape `(B, length)`, rows that ended earlier filled up with the pad token; or, with
            `return_dict_in_generate=True`, [`GenerateDecoderOnlyOutput`] with one more attribute `judge_stats`, a
            [`JudgeStats`]. In its `scores` and `logits`, rows that have ended hold zeros; its `past_key_values` is
            `None` for several prompts or a static cache.
        """
        call = Call(
            model,
            self.draft,
            input_ids,
            logits_processor,
            Stopping(stopping_criteria, int(generation_config.max_length)),
            generation_config,
            without_full_mask(model_kwargs),
            self.tokenizer,
            self.assistant_tokenizer,
            self.streamer,
        )
        threshold = self._checked_threshold(judge_threshold)
        judge = _moved(self.judge, model.device)
        options = DraftOptions.resolve(
            call,
            judge.num_assistant_tokens,
            num_assistant_tokens,
            num_assistant_tokens_schedule,
            assistant_confidence_threshold,
        )
        with call.stack as stack:
            source = make_source(call, judge, options)
            target = call.target_passes(generation_config.prompt_lookup_num_tokens or options.num_tokens)
            if "target_hidden" in judge.reads:
                stack.enter_context(target.record_hidden())
            if "draft_hidden" in judge.reads:
                stack.enter_context(source.record_hidden())
            return self._decode(call, target, source, judge, self.threshold if threshold is None else threshold)

    def _decode(
        self, call: Call, target: Passes, source: CandidateSource, judge: Judge, threshold: float | None
    ) -> torch.Tensor | GenerateDecoderOnlyOutput:
        text, stopping, config = call.text(), call.stopping, call.config
        stats, watch = JudgeStats(), Stopwatch(target.model.device)
        scores_kept = _Steps(call.batch, bool(config.return_dict_in_generate and config.output_scores))
        logits_kept = _Steps(call.batch, bool(config.return_dict_in_generate and config.output_logits))
        if self.streamer is not None:
            self.streamer.put(call.input_ids.cpu())
        with watch.part("all"):
            while text.rows:
                # 1. Draft; every round adds at least one token of the target's
                with watch.part("draft"):
                    found = source.propose(text, [stopping.max_length - end - 1 for end in text.ends])
                k = found.tokens.shape[1]

                # 2. One target pass over the last token and the candidates (the first round: over the prompt and them)
                with watch.part("target"):
                    new = torch.cat([target.unseen(text), found.tokens], dim=-1)
                    logits, states = target.forward(new, rows=k + 1)
                logits = logits.to(call.input_ids.device)

                # 3. Which candidates stay, and what follows them
                v = _verification(call, text, found, logits, states)
                tests = [exact_match if found.scores is None else speculative_sampling]
                n, passed = accepted_run([*tests, judge_test(judge, threshold)] if k else tests, v)
                following = next_token(v, n, bool(call.config.do_sample))
                # the round's only synchronisation with the device
                host = torch.cat([n, following, passed.long(), found.tokens], dim=-1).tolist()
                kept = [row[0] for row in host]

                # 4. Emit, up to the first token that ends the text
                bonus = [
                    self.bonus_token or m < count or not count for m, count in zip(kept, found.counts, strict=True)
                ]
                emitted = [row[2 + k : 2 + k + row[0]] + row[1:2] * b for row, b in zip(host, bonus, strict=True)]
                tokens = torch.cat([found.tokens, following], dim=-1).scatter(1, n, following)
                text.extend(tokens, [len(row) for row in emitted])
                going_on = []
                for i, row in enumerate(emitted):
                    scores_kept.add(text.rows[i], v.target_scores[i : i + 1, : len(row)])
                    logits_kept.add(text.rows[i], logits[i : i + 1, : len(row)])
                    stands, ended = stopping.first_stop(text, i, row, scores_kept.of(text.rows[i]))
                    scores_kept.drop(text.rows[i], len(row) - stands)
                    logits_kept.drop(text.rows[i], len(row) - stands)
                    if ended:
                        text.finish(i, text.ends[i] - len(row) + stands)
                    else:
                        going_on.append(i)
                    if self.streamer is not None:
                        self.streamer.put(torch.tensor(row[:stands]))
                    kept[i] = min(kept[i], stands)
                    stats.add_round(stands, found.counts[i], kept[i], matched=sum(host[i][2 : 2 + kept[i]]))

                # 5. Both caches keep exactly the texts but their last tokens
                target.keep(text)
                with watch.part("draft"):
                    source.update(text, found, v.target_scores, kept)
                if len(going_on) < len(emitted):
                    for part in (text, target, source):
                        part.select(going_on)
        if self.streamer is not None:
            self.streamer.end()
        stats.target_calls = target.calls
        stats.draft_calls = source.calls
        stats.draft_seconds = watch.seconds("draft")
        stats.target_seconds = watch.seconds("target")
        stats.other_seconds = watch.seconds("all") - stats.draft_seconds - stats.target_seconds
        pad = config._pad_token_tensor
        sequences = text.sequences(0 if pad is None else int(pad))
        if not config.return_dict_in_generate:
            return sequences
        output = GenerateDecoderOnlyOutput(
            sequences=sequences,
            scores=scores_kept.steps(),
            logits=logits_kept.steps(),
            past_key_values=target.cache if isinstance(target, CachedModel) else None,
        )
        output.judge_stats = stats
        return output


def _verification(
    call: Call, text: Text, found: Candidates, logits: torch.Tensor, states: torch.Tensor | None
) -> Verification:
    """What the tests of a round see."""
    k = found.tokens.shape[1]
    scores = process(call.processors, text, [found.tokens], logits)
    drawn = call.config.do_sample and found.scores is None
    choices = sample(scores.softmax(-1))[..., 0] if drawn else scores.argmax(-1)
    shorter = min(found.counts) < k
    return Verification(
        Window(found.tokens, choices[:, :-1], states, found.hidden, logits, found.logits),
        scores,
        found.scores,
        choices,
        on_device(found.counts, logits.device)[:, None] if shorter else None,
    )


class _Steps:
    """What `generate` returns of every step, gathered row by row: tensors of shape `(1, V)`. Keeps nothing if not
    `wanted`."""

    def __init__(self, batch: int, wanted: bool) -> None:
        self._rows: list[list[torch.Tensor]] | None = [[] for _ in range(batch)] if wanted else None

    def add(self, row: int, values: torch.Tensor) -> None:
        """Values of shape `(1, n, V)` for the next n tokens of a row."""
        if self._rows is not None:
            self._rows[row] += values.unbind(1)

    def drop(self, row: int, n: int) -> None:
        """Forget the last n of a row."""
        if self._rows is not None:
            del self._rows[row][len(self._rows[row]) - n :]

    def of(self, row: int) -> list[torch.Tensor] | None:
        return None if self._rows is None else self._rows[row]

    def steps(self) -> tuple[torch.Tensor, ...] | None:
        """One tensor of shape `(B, V)` for each step; rows that have ended hold zeros."""
        if self._rows is None:
            return None
        nothing = torch.zeros_like(self._rows[0][0])
        return tuple(torch.cat(step) for step in zip_longest(*self._rows, fillvalue=nothing))


def _moved(judge: Judge, device: torch.device) -> Judge:
    """Move a trained head next to the target; rules have no device."""
    if isinstance(judge, torch.nn.Module) and any(p.device != device for p in judge.parameters()):
        judge.to(device)
    return judge
