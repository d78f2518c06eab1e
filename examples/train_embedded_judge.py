"""The four verbs in Python: how the published judge of the embedded pair was trained and measured.

python examples/train_embedded_judge.py --out hub_cards/embedded-pair --labels /tmp/labels

Labels are mined on training problems, the threshold is chosen on validation problems, and only the report uses test
problems. This takes about 45 minutes on one CPU core. Labelling resumes where it was interrupted.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

import torch
from rich.console import Console

from hf_autojudge import Judge, KLRule, TopKRule
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.evaluation import measure_frontier, plot_frontier
from hf_autojudge.hub import save_judge, write_card
from hf_autojudge.judges.configuration_autojudge import FEATURES
from hf_autojudge.labeling import label_samples
from hf_autojudge.training import calibrate_threshold, fit_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the judge and its reports")
    parser.add_argument("--labels", required=True, help="folder of the labels")
    parser.add_argument("--train", type=int, default=2000, help="problems to mine")
    parser.add_argument("--validation", type=int, default=500, help="problems to choose the threshold on")
    parser.add_argument("--test", type=int, default=500, help="problems to report on")
    parser.add_argument("--num-assistant-tokens", type=int, default=32, help="candidate tokens per round")
    parser.add_argument("--recalls", type=float, nargs="+", default=[1.0, 0.995, 0.99, 0.98, 0.95])
    parser.add_argument("--max-accuracy-drop", type=float, default=0.01)
    parser.add_argument("--confidence", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console, task = Console(width=112), word_problems_task()
    target, draft, tokenizer = load_pair()
    pair = (target, draft, tokenizer, task)

    store = label_samples(*pair, task.load("train", args.train), args.labels)
    result = fit_store(target, draft, args.labels, args.num_assistant_tokens, features=FEATURES, validation_share=0.25)
    head = result.head
    console.print(f"AUC {result.auc:.4f} at C = {result.c:.3g}, {result.share_important:.1%} important")

    table = head.config.thresholds
    thresholds = sorted({max(r["threshold"] for r in table if r["recall"] >= recall) for recall in args.recalls})
    choice, measured = calibrate_threshold(
        *pair,
        task.load("validation", args.validation),
        head,
        args.max_accuracy_drop,
        args.confidence,
        thresholds=thresholds,
    )
    console.print(measured.table(), choice.reason)
    head.config.threshold = choice.threshold
    fit = result.metrics() | {"labels": store.settings}
    save_judge(args.out, head, fit=fit, calibration=asdict(choice) | {"settings": measured.settings})

    judges: dict[str, Judge] = {"AutoJudge": head, "top-2": TopKRule(2), "top-3": TopKRule(3)}
    judges |= {"KL < 0.1": KLRule(0.1), "KL < 1": KLRule(1.0)}
    frontier = measure_frontier(*pair, task.load("test", args.test), judges, thresholds)
    frontier.to_json(f"{args.out}/frontier.json")
    plot_frontier(frontier, f"{args.out}/frontier.png", args.max_accuracy_drop)
    write_card(args.out)
    console.print(frontier.table())


if __name__ == "__main__":
    main()
