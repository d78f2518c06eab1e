"""Compare what labels protect: the target's outcome ("same") or the right answer ("correct"). Labels the same problems
with both, fits a head on each, and measures both heads on the same validation questions. On the embedded pair, whose
target is nearly always right, or with noise in the target's weights.

python examples/compare_outcomes.py --labels /tmp/outcomes
python examples/compare_outcomes.py --labels /tmp/outcomes-noise --noise 0.25
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.evaluation import measure_frontier
from hf_autojudge.hub.card import markdown_table
from hf_autojudge.judges.configuration_autojudge import FEATURES
from hf_autojudge.labeling import AutoJudge, label_samples
from hf_autojudge.training import fit_store

OUTCOMES = ("same", "correct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, help="folder of the labels and features, one folder per outcome")
    parser.add_argument("--problems", type=int, default=800, help="number of labelled training problems")
    parser.add_argument("--questions", type=int, default=300, help="number of validation questions")
    parser.add_argument("--recalls", type=float, nargs="+", default=[0.99, 0.95, 0.9, 0.8, 0.6])
    parser.add_argument("--validation-share", type=float, default=0.2)
    parser.add_argument("--noise", type=float, default=0.0, help="added to the target's weights; 0.25: often wrong")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    target, draft, tokenizer = load_pair()
    if args.noise:
        disturb(target, args.noise)
    task = word_problems_task()
    problems, questions = task.load("train", args.problems), task.load("validation", args.questions)

    rows, mismatches, heads = [], [], {}
    for outcome in OUTCOMES:
        folder = Path(args.labels) / outcome
        store = label_samples(target, draft, tokenizer, task, problems, folder, method=AutoJudge(outcome=outcome))
        found = {(i, m.position, m.draft_token): m for i, item in enumerate(store.labelled()) for m in item.mismatches}
        mismatches.append(found)
        fit = fit_store(target, draft, folder, features=FEATURES, validation_share=args.validation_share)
        heads[outcome] = fit.head
        helpful = sum(m.helpful for m in found.values())
        rows.append((outcome, len(found), f"{fit.share_important:.2%}", helpful, f"{fit.auc:.4f}"))
    references = [tokenizer.decode(item.reference, skip_special_tokens=True) for item in store.labelled()]
    right = sum(task.is_correct(answer, problem) for answer, problem in zip(references, problems, strict=True))
    print(f"\n{right} of the target's answers to {len(problems)} training problems are right.\n")
    print(markdown_table(("outcome of the labels", "mismatches", "important", "helpful", "validation AUC"), rows))
    same, correct = mismatches
    shared = same.keys() & correct.keys()
    for name, first, second in (("same", same, correct), ("correct", correct, same)):
        only = sum(first[key].important and not second[key].important for key in shared)
        print(f"\nImportant with {name!r} only: {only} of the {len(shared)} mismatches that both have.", end="")

    rows = []
    for outcome, head in heads.items():
        recalls = {
            max(row["threshold"] for row in head.config.thresholds if row["recall"] >= recall): recall
            for recall in args.recalls
        }
        measured = measure_frontier(
            target, draft, tokenizer, task, questions, {outcome: head}, sorted(recalls), baselines=False
        )
        if not rows:
            exact = measured["threshold 0"]
            rows.append(("exact match", "", "", f"{exact.accuracy:.2%}", "", f"{exact.accepted:.3f}"))
        for point in measured.points:
            if point.threshold in recalls:
                low, high = (100 * bound for bound in point.accuracy_difference_interval)
                difference = f"{100 * point.accuracy_difference:+.2f} ({low:+.2f} to {high:+.2f})"
                figures = (f"{point.accuracy:.2%}", difference, f"{point.accepted:.3f}")
                rows.append((outcome, f"{recalls[point.threshold]:g}", f"{point.threshold:.6g}", *figures))
    print(f"\n\n{len(questions)} validation questions; differences in points to exact match, with 95% intervals\n")
    print(markdown_table(("head", "recall", "threshold", "accuracy", "difference", "accepted per target call"), rows))


def disturb(model: Any, noise: float) -> None:
    """Add normal noise to each weight matrix, `noise` times the standard deviation of its weights."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=generator))
    model.config.name_or_path += f"-with-noise-{noise}"


if __name__ == "__main__":
    main()
