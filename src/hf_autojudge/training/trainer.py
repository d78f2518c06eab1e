"""The four verbs on one pair and one task: label, fit, calibrate, evaluate."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median_low

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from hf_autojudge.evaluation import Frontier, measure_frontier, plot_acceptance_by_position, plot_frontier
from hf_autojudge.evaluation.identity import describe_judge
from hf_autojudge.evaluation.run import describe_run
from hf_autojudge.hub import push_judge, save_judge, write_card
from hf_autojudge.judges import AutoJudgeHead, Judge
from hf_autojudge.labeling import LabelStore, label_samples
from hf_autojudge.labeling.progress import LabelingProgress
from hf_autojudge.provenance import digest, read_json
from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.training.arguments import JudgeTrainingArguments
from hf_autojudge.training.calibration import calibrate_threshold
from hf_autojudge.training.choosing import ThresholdChoice
from hf_autojudge.training.disjoint import calibrated_on, check_digests, prompt_digests
from hf_autojudge.training.fitting import FitResult
from hf_autojudge.training.from_store import fit_store
from hf_autojudge.training.reliability import plot_reliability
from hf_autojudge.training.reporting import Reporter
from hf_autojudge.training.tuning import DraftLengthChoice, tune_draft_length

TUNING_SAMPLES = 32
TUNING_RECALL = 0.95  # the share of important mismatches rejected while the draft length is tuned

logger = logging.getLogger(__name__)


class JudgeTrainer:
    """Trains a judge for a pair of models and a task, as transformers' `Trainer` trains a model.

    Each verb reads what the verb before it has written to `args.output_dir`, so the verbs may run in different
    processes, with this class or with `hf-autojudge`, which uses it. A killed run resumes: labelled prompts, collected
    features and the answers of `calibrate` and `evaluate` are kept; only `fit`'s optimization starts again. With
    `args.push_to_hub`, `fit`, `calibrate` and `evaluate` upload the judge.

    Answers are kept in `answers` in the output folder, in one folder for each judge, its settings and the device. A
    repeated run reads them from there; delete the folder to measure again.

    Args:
        target ([`PreTrainedModel`]): Decoder-only.
        draft ([`PreTrainedModel`], *optional*): With the same tokens. `None` only to label and fit annotated answers.
        processing_class ([`PreTrainedTokenizerBase`]): The tokenizer of both models.
        task ([`Task`], *optional*): Makes prompts, compares outcomes and loads samples: `"train"` for the labels,
            `"validation"` for the threshold, `"test"` for the evaluation. `fit` needs none.
        args ([`JudgeTrainingArguments`], *optional*): All settings.
        judge ([`AutoJudgeHead`], *optional*): A judge to calibrate or evaluate. Defaults to the one in the output
            folder.
        callbacks (`Sequence[TrainerCallback]`, *optional*): transformers' callbacks; `on_train_begin`, `on_log` and
            `on_train_end` are called.

    Attributes:
        judge ([`AutoJudgeHead`]): The judge in `args.output_dir`.

    Example:

        trainer = JudgeTrainer(target, draft, tokenizer, task, JudgeTrainingArguments(output_dir="judge"))
        trainer.train()
        print(trainer.evaluate()["threshold 0"].accepted)
    """

    def __init__(
        self,
        target: PreTrainedModel,
        draft: PreTrainedModel | None,
        processing_class: PreTrainedTokenizerBase,
        task: Task | None = None,
        args: JudgeTrainingArguments | None = None,
        judge: AutoJudgeHead | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.target = target
        self.draft = draft
        self.processing_class = processing_class
        self._task = task
        self.args = JudgeTrainingArguments() if args is None else args
        self._judge = judge
        self._reporter = Reporter(self.args, callbacks, target)

    @property
    def task(self) -> Task:
        """The task.

        Raises:
            ValueError: If none was given.
        """
        if self._task is None:
            raise ValueError("JudgeTrainer was given no task; pass task=.")
        return self._task

    @property
    def judge(self) -> AutoJudgeHead:
        """The judge: the one given or fitted last, else the one in the output folder.

        Raises:
            ValueError: If there is none.
        """
        if self._judge is None:
            if not (Path(self.args.output_dir) / "config.json").exists():
                raise ValueError(f"{self.args.output_dir} holds no judge yet; fit one first.")
            self._judge = AutoJudgeHead.from_pretrained(self.args.output_dir)
        return self._judge

    def train(self) -> ThresholdChoice:
        """Label, fit and calibrate. Returns what `calibrate` returns."""
        with self._reporter.run():
            self.label()
            self.fit()
            return self.calibrate()

    def label(self) -> LabelStore:
        """Find out which mismatches are important, on the task's training samples. See [`label_samples`]."""
        samples = self.task.load("train", self.args.max_train_samples)
        with self._reporter.run():
            return label_samples(
                self.target,
                self.draft,
                self.processing_class,
                self.task,
                samples,
                self.args.labels_folder,
                method=self.args.labeling_method(samples, self.processing_class),
                max_new_tokens=self.args.max_new_tokens,
                batch_size=self.args.label_batch_size,
                on_prompt=self._log_labeling,
            )

    def _log_labeling(self, progress: LabelingProgress) -> None:
        labels = progress.labels
        figures = {
            "label/mismatches": len(labels),
            "label/share_important": sum(labels) / max(1, len(labels)),
            "label/target_tokens_per_second": progress.target_tokens_per_second,
        }
        self._reporter.log(progress.done, figures)

    def fit(self) -> FitResult:
        """Fit the head on the labels. Reports of an earlier judge in the output folder are removed. See
        [`fit_store`]."""
        args = self.args
        made_with = LabelStore(args.labels_folder).settings
        with self._reporter.run():
            result = fit_store(
                self.target,
                self.draft if made_with["draft"] else None,
                args.labels_folder,
                args.num_assistant_tokens,
                features=args.features,
                hidden_size=args.hidden_size,
                soft_labels=args.soft_labels,
                validation_share=args.validation_share,
                balanced=made_with["method"] == "annotated" if args.balanced is None else args.balanced,
                seed=args.seed,
                device=str(self.target.device),
            )
            for step, row in enumerate(result.grid):
                self._reporter.log(step, {f"fit/{name}": value for name, value in row.items()})
        for report in ("calibration.json", "frontier.json", "frontier.png", "acceptance.png"):
            (Path(args.output_dir) / report).unlink(missing_ok=True)
        self._judge = result.head
        save_judge(args.output_dir, result.head, fit=result.metrics() | {"labels": made_with})
        plot_reliability(result, Path(args.output_dir) / "reliability.png")
        self._publish()
        return result

    def calibrate(self) -> ThresholdChoice:
        """Choose the judge's threshold by task accuracy on the validation samples, and write it into the judge. See
        [`calibrate_threshold`]. A given `args.num_assistant_tokens` is written into it, too. With
        `args.tune_draft_length`, choose the draft length first: the accuracy holds for
        the draft length that it is measured with. See [`tune_draft_length`]."""
        args = self.args
        samples = self.task.load("validation", args.max_validation_samples)
        with self._reporter.run():
            tuned = self._tune_draft_length(samples[:TUNING_SAMPLES]) if args.tune_draft_length else None
            choice, measured = calibrate_threshold(
                *self._pair(),
                samples,
                self.judge,
                args.max_accuracy_drop,
                args.confidence,
                args.thresholds,
                max_new_tokens=args.max_new_tokens,
                num_assistant_tokens=args.num_assistant_tokens,
                batch_size=args.eval_batch_size,
                num_timed=1,  # the choice does not depend on tokens/s
                folder=self._answers_folder("calibrate", samples),
                seed=args.seed,
            )
            for step, row in enumerate(choice.rows):
                self._reporter.log(step, {f"calibrate/{name}": value for name, value in row.items()})
        self.judge.config.threshold = choice.threshold
        if args.num_assistant_tokens is not None:  # what the accuracy was measured with
            self.judge.config.num_candidate_tokens = args.num_assistant_tokens
        if not choice.supported:
            logger.warning("The judge accepts no mismatch (threshold 0). %s", choice.reason)
        report = asdict(choice) | {
            "settings": measured.settings,
            "draft_length": tuned and asdict(tuned),
            "validation_prompts": prompt_digests(samples, self.task, self.processing_class),
        }
        save_judge(args.output_dir, self.judge, calibration=report)
        self._publish()
        return choice

    def _tune_draft_length(self, samples: Sequence[Sample]) -> DraftLengthChoice:
        """Tune at a threshold such as calibration may choose: the middle one of those given, else of those in the
        table that reject most important mismatches."""
        safe = [row["threshold"] for row in self.judge.config.thresholds if row["recall"] >= TUNING_RECALL]
        if thresholds := self.args.thresholds or safe:
            self.judge.config.threshold = median_low(thresholds)
        return tune_draft_length(
            *self._pair(), samples, self.judge, max_new_tokens=self.args.max_new_tokens, seed=self.args.seed
        )

    def evaluate(self, judges: Mapping[str, Judge] | None = None) -> Frontier:
        """Measure accuracy against speed on the test samples: the target and the draft alone, transformers' assisted
        generation, threshold 0, the judge at each threshold, and further `judges` by name. Writes `frontier.json`,
        `frontier.png`, `acceptance.png` and, if the judge lies in the output folder, the card. Further judges may be
        added later: only they are asked then. See
        [`measure_frontier`]. Test prompts that the judge was calibrated on are refused."""
        args = self.args
        samples = self.task.load("test", args.max_test_samples)
        digests = prompt_digests(samples, self.task, self.processing_class)
        check_digests(calibrated_on(args.output_dir, self.judge), digests)
        own = self.judge.threshold
        thresholds = args.thresholds or sorted({own, *(row["threshold"] for row in self.judge.config.thresholds)})
        with self._reporter.run():
            frontier = measure_frontier(
                *self._pair(),
                samples,
                {"AutoJudge": self.judge, **(judges or {})},
                thresholds,
                max_new_tokens=args.max_new_tokens,
                num_assistant_tokens=args.num_assistant_tokens,
                batch_size=args.eval_batch_size,
                folder=self._answers_folder("evaluate", samples),
                seed=args.seed,
            )
            for point in frontier.points:
                figures = {
                    f"eval_accuracy/{point.name}": point.accuracy,
                    f"eval_accepted_per_target_call/{point.name}": point.accepted,
                    f"eval_tokens_per_second/{point.name}": point.tokens_per_second,
                }
                self._reporter.log(0, {name: value for name, value in figures.items() if value is not None})
        output_dir = Path(args.output_dir)
        calibration = output_dir / "calibration.json"
        limit = read_json(calibration).get("max_accuracy_drop") if calibration.exists() else None
        frontier.to_json(output_dir / "frontier.json")
        plot_frontier(frontier, output_dir / "frontier.png", limit)
        plot_acceptance_by_position(frontier, output_dir / "acceptance.png")
        self._publish()
        return frontier

    def _answers_folder(self, verb: str, samples: Sequence[Sample]) -> Path:
        """Where a verb keeps its answers: another folder for everything that would mix unlike answers. Which samples
        are asked is no part of it, so a run may ask for more."""
        numbers = (self.args.max_new_tokens, self.args.num_assistant_tokens, None)
        run = describe_run(*self._pair(), samples[:1], {"": self.judge}, *numbers)
        made_by = json.dumps([run.settings, run.machine["device_name"], describe_judge(self.judge)])
        return Path(self.args.output_dir) / "answers" / f"{verb}-{digest(made_by.encode())}"

    def _publish(self) -> None:
        """Write the card, if the judge lies in the output folder, and upload the judge, if it is asked for."""
        if (Path(self.args.output_dir) / "config.json").exists():
            write_card(self.args.output_dir, repo_id=self.args.hub_model_id)
            if self.args.push_to_hub:
                self.push_to_hub()

    def push_to_hub(self, commit_message: str = "Upload judge") -> str:
        """Upload the judge, its reports and its card, and nothing else, to `args.hub_model_id`; by default to a
        repository named like the output folder. Returns the address of the commit."""
        args = self.args
        return push_judge(
            args.output_dir,
            args.hub_model_id or Path(args.output_dir).resolve().name,
            private=args.hub_private_repo,
            token=args.hub_token,
            commit_message=commit_message,
        )

    def _pair(self) -> tuple[PreTrainedModel, PreTrainedModel, PreTrainedTokenizerBase, Task]:
        if self.draft is None:
            raise ValueError("Measuring a judge needs a draft; JudgeTrainer was given none.")
        return self.target, self.draft, self.processing_class, self.task
