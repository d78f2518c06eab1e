"""The demo: label, fit, calibrate and evaluate on the embedded pair, within a time budget."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.evaluation import answer_page, measure_frontier, plot_frontier, trace_answer
from hf_autojudge.hub import save_judge, write_card
from hf_autojudge.judges import ExactMatchRule, TopKRule
from hf_autojudge.judges.configuration_autojudge import FEATURES
from hf_autojudge.labeling import label_samples
from hf_autojudge.training import calibrate_threshold, fit_store
from hf_autojudge.training.disjoint import prompt_digests

LABEL_SHARE, CALIBRATE_SHARE, EVALUATE_SHARE = 0.3, 0.25, 0.38  # of the time; the rest is for loading and fitting
MAX_SAMPLES = 5000
BATCH_SIZE = 8  # small, because prompts that are unfinished when the time is over are lost
MAX_ACCURACY_DROP, CONFIDENCE = 0.05, 0.8  # what a few dozen prompts can support
SHOWN_SAMPLE = 7  # index of the test sample whose answer is shown
STYLES = {"match": "", "bonus": "", "accepted": "yellow", "corrected": "blue"}


def run_demo(out: Path, seconds: float, num_assistant_tokens: int, console: Console) -> None:
    """Label, fit, calibrate, evaluate, and show one answer. Writes `labels/`, `judge/` (head, reports, card,
    `frontier.json`, `frontier.png`) and `answer.html` into `out`. With more seconds it uses more samples, which gives
    narrower intervals.
    """
    task = word_problems_task()
    target, draft, tokenizer = load_pair()
    labels, judge_folder = out / "labels", out / "judge"

    console.rule("1. label: which of the draft's mismatches change the answer?")
    samples = task.load("train", MAX_SAMPLES)
    store = label_samples(
        target, draft, tokenizer, task, samples, labels, batch_size=BATCH_SIZE, seconds=seconds * LABEL_SHARE
    )

    console.rule("2. fit: a linear head on both models' hidden states")
    result = fit_store(target, draft, labels, num_assistant_tokens, features=FEATURES, validation_share=0.2)
    console.print(
        f"{result.n_train} mismatches for training, {result.n_validation} for validation, "
        f"{result.share_important:.0%} of them important. Validation AUC {result.auc:.3f} (C = {result.c:.3g})."
    )

    console.rule("3. calibrate: which threshold keeps the task's accuracy?")
    thresholds = [row["threshold"] for row in result.head.config.thresholds if row["recall"] >= 0.7]
    samples = task.load("validation", MAX_SAMPLES)
    choice, measured = calibrate_threshold(
        target,
        draft,
        tokenizer,
        task,
        samples,
        result.head,
        MAX_ACCURACY_DROP,
        CONFIDENCE,
        thresholds=_spread(thresholds, 4),
        seconds=seconds * CALIBRATE_SHARE,
    )
    console.print(choice.reason)
    result.head.config.threshold = choice.threshold
    asked = samples[: measured.settings["n"]]  # in the given time
    calibration = asdict(choice) | {
        "settings": measured.settings,
        "validation_prompts": prompt_digests(asked, task, tokenizer),
    }
    fit = result.metrics() | {"labels": store.settings}
    save_judge(judge_folder, result.head, fit=fit, calibration=calibration)

    console.rule("4. evaluate: accuracy against speed, on test problems")
    measured_thresholds = sorted({choice.threshold, *_spread(thresholds, 2)} - {0.0})
    frontier = measure_frontier(
        target,
        draft,
        tokenizer,
        task,
        task.load("test", MAX_SAMPLES),
        {"AutoJudge": result.head, "top-2": TopKRule(2)},
        measured_thresholds,
        seconds=seconds * EVALUATE_SHARE,
    )
    frontier.to_json(judge_folder / "frontier.json")
    plot_frontier(frontier, judge_folder / "frontier.png", MAX_ACCURACY_DROP)
    write_card(judge_folder)
    console.print(frontier.table())

    console.rule("5. one answer, side by side")
    sample = task.load("test", SHOWN_SAMPLE + 1)[SHOWN_SAMPLE]
    prompt = task.prompt(sample, tokenizer)
    options = {"max_new_tokens": task.max_new_tokens, "num_assistant_tokens": num_assistant_tokens}
    threshold = choice.threshold or measured_thresholds[-1]
    exact = trace_answer(target, draft, tokenizer, prompt, ExactMatchRule(), **options)
    judged = trace_answer(target, draft, tokenizer, prompt, result.head, judge_threshold=threshold, **options)
    answer_page(sample["question"], exact, judged, out / "answer.html")
    console.print(
        "plain: both models chose it; yellow: the draft's, accepted by the judge; blue: the target's correction",
        style="dim",
    )
    for piece in judged.tokens:
        console.print(piece.text, style=STYLES[piece.label], end="", markup=False, highlight=False)
    console.print(
        f"\n{exact.stats.accepted_per_target_call:.2f} tokens per target call without the judge, "
        f"{judged.stats.accepted_per_target_call:.2f} with it."
    )
    for path in ("judge/README.md", "judge/frontier.json", "judge/frontier.png", "answer.html"):
        console.print(f"Written: {out / path}")


def _spread(thresholds: list[float], n: int) -> list[float]:
    """At most `n` thresholds, evenly spaced in the list, including the last."""
    step = max(1, -(-len(thresholds) // n))
    return thresholds[::-1][::step][::-1]
