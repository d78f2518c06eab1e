"""Compare features and a hidden layer: validation AUC of heads for the embedded pair, over several splits.

python examples/ablate_features.py --labels /tmp/labels-600

Labels training problems (a few minutes on one core), or reads the labels that the folder already holds.
"""

from __future__ import annotations

import argparse
from statistics import mean, stdev

import torch

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.hub.card import markdown_table
from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS
from hf_autojudge.labeling import label_samples
from hf_autojudge.training import fit_head, store_features

DD, DT, PD, PT = FEATURES
SETS: dict[str, tuple[str, ...]] = {
    "DT": (DT,),
    "DD": (DD,),
    "DD + DT": (DD, DT),
    "previous only": (PD, PT),
    "DT + previous target": (DT, PT),
    "all four states": FEATURES,
    "scalars only": SCALARS,
    **{name: (name,) for name in SCALARS},
    "DD + DT + scalars": (DD, DT, *SCALARS),
    "all states and scalars": FEATURES + SCALARS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, help="folder of the labels and features")
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--splits", type=int, default=5, help="seeds of the split into training and validation")
    parser.add_argument("--validation-share", type=float, default=0.2)
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    target, draft, tokenizer = load_pair()
    task = word_problems_task()
    samples = task.load("train", args.problems)
    store = label_samples(target, draft, tokenizer, task, samples, args.labels)
    data = store_features(target, draft, store.labelled(), store.folder / "features")

    def aucs(features: tuple[str, ...], hidden_size: int) -> str:
        seeds = range(args.splits)
        options = {"validation_share": args.validation_share, "hidden_size": hidden_size}
        found = [fit_head(data, features, seed=seed, **options).auc for seed in seeds]
        return f"{mean(found):.4f} ± {stdev(found):.4f}"

    important = torch.cat([part.important for part in data])
    print(f"{len(important)} mismatches of {len(samples)} problems, {important.double().mean():.1%} important\n")
    lines = [(name, aucs(names, 0), aucs(names, args.hidden_size)) for name, names in SETS.items()]
    print(markdown_table(("the head reads", "linear", f"one hidden layer of {args.hidden_size}"), lines))


if __name__ == "__main__":
    main()
