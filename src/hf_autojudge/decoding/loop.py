"""The loop of judged decoding: propose, verify, accept, commit. `JudgedDecoding` is what
`generate(custom_generate=...)` runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation import GenerateDecoderOnlyOutput
from transformers.generation.streamers import BaseStreamer

from hf_autojudge.decoding.arguments import Arguments
from hf_autojudge.decoding.candidates import CandidateSource, DraftCandidates
from hf_autojudge.decoding.stats import JudgeStats
from hf_autojudge.decoding.transformers_candidates import TransformersCandidates
from hf_autojudge.decoding.verification import accepted_run, next_token, spent_after, verify
from hf_autojudge.judges import Judge
from hf_autojudge.judges.base import check_threshold
from hf_autojudge.runners.base import ModelRunner, to_device, unwrap_peft
from hf_autojudge.runners.dynamic import DynamicRunner


class JudgedDecoding:
    """Assisted decoding that keeps the mismatches a judge accepts, for
    `model.generate(custom_generate=JudgedDecoding(...))`.

    `generate(judge=...)` makes one of these; use the class itself where `generate` must stay unwrapped. What
    transformers does not hand to a callable (draft, tokenizers, streamer) is carried here; `num_assistant_tokens`,
    `num_assistant_tokens_schedule`, `assistant_confidence_threshold` and `judge_threshold` are arguments of
    `generate`. For stop strings without `judge=`, pass `stopping_criteria=[StopStringCriteria(tokenizer, strings)]`.

    Args:
        judge ([`Judge`]): Decides which mismatches are accepted.
        assistant_model ([`PreTrainedModel`], *optional*): The draft. Without it, the call must name another candidate
            source, such as `prompt_lookup_num_tokens`.
        judge_threshold (`float`, *optional*): Overrides the judge's own, in [0, 1].
        bonus_token (`bool`, *optional*, defaults to `True`): After a fully accepted round, also emit the target's
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
        if isinstance(judge, type) or not isinstance(judge, Judge):
            given = f"the class {judge.__name__}" if isinstance(judge, type) else type(judge).__name__
            raise TypeError(
                f"judge= takes an AutoJudgeHead, a rule or another object with the methods of hf_autojudge.Judge; got "
                f"{given}. To load one from the Hub: AutoJudgeHead.from_pretrained(...)."
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
            `torch.LongTensor` of shape `(B, length)`, sequences that ended earlier padded with the pad token; or, with
            `return_dict_in_generate=True`, [`GenerateDecoderOnlyOutput`] with two more attributes: `judge_stats`, a
            [`JudgeStats`] of the call, and `sequence_stats`, one for each sequence, without draft calls and times. In
            its `scores` and `logits`, sequences that have ended hold zeros; its `past_key_values` is `None` for
            several prompts or a static cache.
        """
        threshold = self._checked_threshold(judge_threshold)
        arguments = Arguments(
            model,
            self.draft,
            self.judge,
            self.tokenizer,
            self.assistant_tokenizer,
            self.streamer,
            input_ids,
            logits_processor,
            stopping_criteria,
            generation_config,
            model_kwargs,
            num_assistant_tokens,
            num_assistant_tokens_schedule,
            assistant_confidence_threshold,
        )
        with ExitStack() as stack:
            source: CandidateSource
            if arguments.source is not None:
                source = TransformersCandidates(arguments)
            else:
                source = DraftCandidates(
                    arguments.draft_runner(stack),
                    arguments.draft_length,
                    logits_processor,
                    arguments.do_sample,
                    arguments.vocab_size,
                    keep_logits="draft_logits" in arguments.reads,
                    keep_hidden="draft_hidden" in arguments.reads,
                    keep_scores="draft_scores" in arguments.reads,
                )
            target = arguments.target_runner(stack)
            judge = _moved(self.judge, input_ids.device)
            return self._decode(arguments, target, source, judge, self.threshold if threshold is None else threshold)

    def _decode(
        self, arguments: Arguments, target: ModelRunner, source: CandidateSource, judge: Judge, threshold: float | None
    ) -> torch.Tensor | GenerateDecoderOnlyOutput:
        config, sequences = arguments.config, arguments.sequences
        sequence_stats = [JudgeStats() for _ in sequences.indices]
        times, now = [], _clock(arguments.input_ids.device)
        if self.streamer is not None:
            self.streamer.put(arguments.input_ids.cpu())
        spent = torch.zeros(len(sequences.ends), getattr(judge, "num_budgets", 0), device=arguments.input_ids.device)
        while sequences.indices:
            # Propose
            began = now()
            candidates = source.propose(sequences)
            k = candidates.tokens.shape[1]
            proposed = now()

            # Verify: one target pass over the uncached tokens (at first the prompt, then the last token) and the
            # candidates
            tokens, starts = sequences.uncached(target.num_cached)  # starting there drops what was rejected last
            logits, hidden = target.forward(torch.cat([tokens, candidates.tokens], -1), starts, logits_to_keep=k + 1)
            verified = now()
            logits = logits.to(sequences.ids.device).float()
            processors, do_sample, reads = arguments.logits_processor, arguments.do_sample, arguments.reads
            v = verify(candidates, sequences, logits, hidden, processors, do_sample, judge, reads, spent)

            # Accept: the candidates up to the first that neither the standard test nor the judge accepts, and after
            # them one token of the target's
            n, passed = accepted_run(v, judge, threshold)
            following = next_token(v, n, do_sample, judge)
            if spent.shape[1]:
                spent = spent_after(v, n, judge)
            new = torch.cat([candidates.tokens, following], dim=-1).scatter(1, n, following)
            rows = torch.cat([n, passed.long(), new], dim=-1).tolist()  # the round's only synchronization

            # Commit: up to the first token that ends a sequence
            counts, accepted, running = [], [], []
            for i, (num_accepted, *rest) in enumerate(rows):
                drafted = candidates.counts[i]
                has_bonus = self.bonus_token or num_accepted < drafted or drafted == 0
                new_tokens = rest[k : k + num_accepted + has_bonus]
                count, ended = sequences.tokens_until_end(i, new_tokens, new, v.target_scores)
                counts.append(count)
                accepted.append(min(num_accepted, count))
                if not ended:
                    running.append(i)
                if self.streamer is not None:
                    self.streamer.put(torch.tensor(new_tokens[:count]))
                stats = sequence_stats[sequences.indices[i]]
                stats.add_round(count, drafted, accepted[i], matched=sum(rest[: accepted[i]]))
            sequences.commit(new, counts, scores=v.target_scores, logits=logits)
            source.update(sequences, v.target_scores, accepted)
            if len(running) < len(counts):
                if isinstance(target, DynamicRunner):  # no further pass does it, and the caller may own the cache
                    target.rollback(min(target.num_cached[0], sequences.ends[0] - 1))
                for part in (sequences, target, source):
                    part.select(running)
                spent = spent[to_device(running, spent.device)]
            times.append((began, proposed, verified, now()))
        if self.streamer is not None:
            self.streamer.end()
        stats = sum(sequence_stats, JudgeStats())
        stats.draft_calls = source.calls
        stats.add_times(times)
        pad = config._pad_token_tensor
        ids = sequences.finished(0 if pad is None else int(pad))
        if not config.return_dict_in_generate:
            return ids
        cache = target.cache if isinstance(target, DynamicRunner) else None
        output = GenerateDecoderOnlyOutput(
            sequences=ids,
            scores=sequences.step_outputs("scores"),
            logits=sequences.step_outputs("logits"),
            past_key_values=cache,
        )
        output.judge_stats, output.sequence_stats = stats, sequence_stats
        return output


def _clock(device: torch.device) -> Callable[[], Any]:
    """Gives the time; on CUDA an event, which does not wait for the device."""
    if device.type != "cuda":
        return time.perf_counter

    def event() -> torch.cuda.Event:
        recorded = torch.cuda.Event(enable_timing=True)
        recorded.record(torch.cuda.current_stream(device))
        return recorded

    return event


def _moved(judge: Judge, device: torch.device) -> Judge:
    """Move trained heads to the target's device, those inside a composite too; rules have none."""
    for part in getattr(judge, "judges", ()):
        _moved(part, device)
    if isinstance(judge, torch.nn.Module) and any(p.device != device for p in judge.parameters()):
        judge.to(device)
    return judge
