"""Candidate generators of transformers (prompt lookup, early exit, drafts with another tokenizer) as sources.

The only file that calls `model._get_candidate_generator`; checked with transformers 5.17.0 and 5.23.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.generation.candidate_generator import (
    AssistedCandidateGeneratorDifferentTokenizers,
    PromptLookupCandidateGenerator,
    UniversalSpeculativeDecodingGenerator,
)

from hf_autojudge.decoding.arguments import Arguments
from hf_autojudge.decoding.candidates import Candidates
from hf_autojudge.decoding.sequences import Sequences


class TransformersCandidates:
    """The candidate generator that a call of `generate` names, as a [`CandidateSource`], for one sequence.

    Raises:
        ValueError: If the generator drafts from the target's own states, or the judge reads a distribution that it
            has not.
    """

    def __init__(self, arguments: Arguments) -> None:
        self.generator = arguments.model._get_candidate_generator(
            generation_config=arguments.config,
            input_ids=arguments.input_ids,
            inputs_tensor=arguments.input_ids,
            logits_processor=arguments.logits_processor,
            model_kwargs=arguments.inputs,
            assistant_model=arguments.draft,
            target_tokenizer=arguments.tokenizer,
            assistant_tokenizer=arguments.assistant_tokenizer,
        )
        if getattr(self.generator, "requires_model_outputs", False):
            raise ValueError(
                f"{type(self.generator).__name__} drafts from the target's own hidden states, which judge= does not "
                "provide yet; pass `assistant_model=` or `prompt_lookup_num_tokens=`."
            )
        without = isinstance(
            self.generator, PromptLookupCandidateGenerator | AssistedCandidateGeneratorDifferentTokenizers
        ) and not isinstance(self.generator, UniversalSpeculativeDecodingGenerator)
        if without and (reads := sorted(arguments.reads & {"draft_logits", "draft_scores"})):
            raise ValueError(
                f"This judge reads {' and '.join(reads)}, but {type(self.generator).__name__} has none; use a judge "
                "that reads the target only."
            )
        self.calls = 0  # passes inside the generator are not counted
        self._do_sample = arguments.do_sample

    def propose(self, sequences: Sequences) -> Candidates:
        """See [`CandidateSource.propose`]."""
        limit = sequences.max_length - sequences.ends[0] - 1
        ids, scores = self.generator.get_candidates(sequences.ids)
        tokens = ids[:, sequences.ids.shape[1] :][:, :limit].to(sequences.ids.device)
        count = tokens.shape[1]
        if count == 0:
            return Candidates(tokens, [0])
        if scores is not None:
            scores = scores[:, :count].to(sequences.ids.device, torch.float32)
        return Candidates(tokens, [count], scores, scores, sampled=self._do_sample and scores is not None)

    def update(self, sequences: Sequences, target_scores: torch.Tensor, accepted: Sequence[int]) -> None:
        """See [`CandidateSource.update`]."""
        self.generator.update_candidate_strategy(sequences.ids, target_scores, accepted[0])

    def select(self, running: Sequence[int]) -> None:
        """See [`CandidateSource.select`]: with one sequence there is nothing to choose from."""
