"""How far a labelling run is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.predictions import Predictor
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.labeling.speculation import Speculation
from hf_autojudge.progress import Progress


@dataclass
class LabelingProgress:
    """How far a labelling run is, in prompts and, because a prompt can take long, in mismatches and tokens.

    Attributes:
        num_prompts (`int`): Prompts of the run, with those that the store had before it.
        done (`int`): Labelled prompts, with those that the store had before it.
        target_tokens (`int`): Tokens that the target has read in this run.
        speculation ([`Speculation`], *optional*): How many tokens the target has written, and which guesses it
            took.
        on_change (`Callable[[LabelingProgress], None]`): Called after each pass of a model and each labelled prompt.
    """

    num_prompts: int
    done: int = 0
    target_tokens: int = 0
    speculation: Speculation | None = None
    on_change: Callable[[LabelingProgress], None] = lambda progress: None
    _began: float = field(default_factory=time.monotonic)
    _labels: list[bool] = field(default_factory=list)  # of the mismatches of labelled prompts
    _known: dict[int, int] = field(default_factory=dict)  # mismatches that an earlier run has found; by prompt's index
    _unfinished: dict[int, tuple[list[bool], float]] = field(default_factory=dict)  # labels, share; by prompt's index

    @property
    def labels(self) -> list[bool]:
        """Whether each mismatch labelled in this run is important; those of unfinished prompts last."""
        return [*self._labels, *(label for labels, _ in self._unfinished.values() for label in labels)]

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    @property
    def target_tokens_per_second(self) -> float:
        """Mean over the run."""
        return self.target_tokens / max(self.seconds, 1e-9)

    def watched(self, job: Job) -> Job:
        """The job, its mismatches counted as they are found."""

        known = len(job.found.mismatches) if job.found else 0  # an earlier run has found them

        def on_progress(found: LabelledPrompt) -> None:
            labels = [mismatch.important for mismatch in found.mismatches[known:]]
            self._unfinished[job.index] = (labels, found.share_searched)
            job.on_progress(found)

        self._known[job.index] = known
        self._unfinished[job.index] = ([], job.found.share_searched if job.found else 0.0)
        return replace(job, on_progress=on_progress)

    def after_pass(self, target: Predictor) -> None:
        """To be called after each pass of a model."""
        self.target_tokens = target.num_tokens
        self.on_change(self)

    def add(self, index: int, labelled: LabelledPrompt | None) -> None:
        """Count a labelled prompt; `None` for one whose labels an earlier attempt has written."""
        self.done += 1
        self._unfinished.pop(index, None)
        known = self._known.pop(index, 0)
        self._labels += [mismatch.important for mismatch in (labelled.mismatches[known:] if labelled else [])]
        self.on_change(self)

    def show(self, bar: Progress, seconds: float | None = None) -> None:
        """Show the figures in a bar that counts prompts or, in a run limited to `seconds`, time."""
        facts = f"{len(self.labels)} mismatches"
        if self.target_tokens:
            facts += f", {self.target_tokens_per_second:.0f} target tokens/s"
        if seconds is None:
            bar.set(self.done + sum(share for _, share in self._unfinished.values()), facts)
        else:
            bar.set(min(seconds, self.seconds), f"{self.done} prompts, {facts}")
