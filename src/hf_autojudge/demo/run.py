"""The demo: the whole main job on the embedded pair, in a given time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from tqdm import tqdm

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.evaluation import answer_page, measure_frontier, plot_frontier, trace_answer
from hf_autojudge.hub import save_judge, write_card
from hf_autojudge.judges import ExactMatchRule, TopKRule
from hf_autojudge.judges.configuration_autojudge import FEATURES
from hf_autojudge.labeling import label_samples
from hf_autojudge.training import calibrate_threshold, fit_store

LABEL_SHARE, CALIBRATE_SHARE, EVALUATE_SHARE = 0.3, 0.25, 0.38  # of the time; fitting and loading take the rest
MAX_PROMPTS = 5000
BATCH_SIZE = 8  # prompts labelled at the same time: those under way when the time is over are lost
SHOWN = 7  # which test problem is shown
STYLES = {"match": "", "bonus": "", "kept": "yellow", "corrected": "blue"}
MAX_ACCURACY_DROP, CONFIDENCE = 0.05, 0.8  # what a few dozen prompts can support


def run_demo(out: Path, seconds: float, num_assistant_tokens: int, console: Console) -> None:
    """Label, fit, calibrate, evaluate, and show one answer.

    Args:
        out (`Path`): Gets `labels/`, `judge/` (head, reports, card, `frontier.json`, `frontier.png`) and
            `answer.html`.
        seconds (`float`): Time to spend. More time means more problems and narrower intervals.
        `num_assistant_tokens` (`int`): Candidate tokens a round.
        console ([`Console`]): Where to print.
    """
    task = word_problems_task()
    target, draft, tokenizer = load_pair()
    pair = (target, draft)
    judge_folder = out / "judge"

    console.rule("1. label: which of the draft's mismatches change the answer?")
    rows = task.load("train", MAX_PROMPTS)
    for _ in _until(seconds * LABEL_SHARE, label_samples(*pair, tokenizer, task, rows, out / "labels", batch_size=BATCH_SIZE)):
        pass

    console.rule("2. fit: a linear head on both models' hidden states")
    result = fit_store(*pair, out / "labels", num_assistant_tokens, features=FEATURES, validation_share=0.2)
    console.print(
        f"{result.n_train} mismatches to fit on, {result.n_validation} to validate, {result.share_important:.0%} "
        f"of them important. Validation AUC {result.auc:.3f} (C = {result.c:.3g})."
    )

    console.rule("3. calibrate: which threshold keeps the task's accuracy?")
    rows_of_table = [row for row in result.head.config.thresholds if row["recall"] >= 0.7]
    choice, measured = calibrate_threshold(
        result.head,
        *pair,
        tokenizer,
        task,
        task.load("validation", MAX_PROMPTS),
        MAX_ACCURACY_DROP,
        CONFIDENCE,
        thresholds=[row["threshold"] for row in _spread(rows_of_table, 4)],
        seconds=seconds * CALIBRATE_SHARE,
    )
    console.print(choice.reason)
    result.head.config.threshold = choice.threshold
    save_judge(
        judge_folder,
        result.head,
        fit=result.metrics(),
        calibration=asdict(choice) | {"settings": measured.settings},
    )

    console.rule("4. evaluate: accuracy against speed, on test problems")
    thresholds = sorted({choice.threshold, *(row["threshold"] for row in _spread(rows_of_table, 2))} - {0.0})
    found = measure_frontier(
        *pair,
        {"AutoJudge": result.head, "top-2": TopKRule(2)},
        task,
        thresholds,
        tokenizer=tokenizer,
        rows=task.load("test", MAX_PROMPTS),
        seconds=seconds * EVALUATE_SHARE,
    )
    found.to_json(judge_folder / "frontier.json")
    plot_frontier(found, judge_folder / "frontier.png")
    write_card(judge_folder)
    console.print(found.table())

    console.rule("5. one answer, side by side")
    row = task.load("test", SHOWN + 1)[SHOWN]
    prompt = task.prompt(row, tokenizer)
    shared = {"max_new_tokens": task.max_new_tokens, "num_assistant_tokens": num_assistant_tokens}
    exact = trace_answer(*pair, ExactMatchRule(), tokenizer, prompt, **shared)
    judged = trace_answer(
        *pair, result.head, tokenizer, prompt, judge_threshold=choice.threshold or thresholds[-1], **shared
    )
    answer_page(row["question"], exact, judged, out / "answer.html")
    console.print(
        "plain: both chose it; yellow: the draft's, kept by the judge; blue: the target's correction", style="dim"
    )
    for piece in judged.tokens:
        console.print(piece.text, style=STYLES[piece.label], end="", markup=False, highlight=False)
    console.print(
        f"\n{exact.stats.accepted_per_target_call:.2f} tokens per target call without the judge, "
        f"{judged.stats.accepted_per_target_call:.2f} with it."
    )
    for path in ("judge/README.md", "judge/frontier.json", "judge/frontier.png", "answer.html"):
        console.print(f"written: {out / path}")


def _until(seconds: float, items: Iterator[Any]) -> Iterator[Any]:
    """Items as they come, with a progress bar in seconds, until the time is over."""
    start = time.monotonic()
    form = "{l_bar}{bar}| {n}/{total} s{postfix}"
    with tqdm(total=round(seconds), desc="Labelling", bar_format=form) as bar:
        for count, item in enumerate(items, start=1):
            yield item
            spent = time.monotonic() - start
            bar.update(min(round(spent), bar.total) - bar.n)
            bar.set_postfix_str(f"{count} prompts, {count / spent:.1f} a second")
            if spent > seconds:
                return


def _spread(rows: list[dict[str, float]], n: int) -> list[dict[str, float]]:
    """At most `n` rows, evenly spread, the last included."""
    step = max(1, -(-len(rows) // n))
    return rows[::-1][::step][::-1]
