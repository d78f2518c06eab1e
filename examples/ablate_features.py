"""Compare features, a hidden layer, and numbers of labels: validation AUC of heads over several splits by prompt.

    python examples/ablate_features.py --labels /tmp/labels-600
    python examples/ablate_features.py --labels judge/labels --target org/target --draft org/draft --dtype bfloat16

The first labels training problems of the embedded pair (a few minutes on one core), or reads the labels that the
folder already holds; the second reads the labels of another pair. The learning curve fits on the labels of a share of
the training prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import mean

import torch
from transformers import AutoModelForCausalLM

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.hub.card import markdown_table
from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS
from hf_autojudge.labeling import LabelStore, label_samples
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


CURVE = {"DD + DT": (DD, DT), "all four states": FEATURES}
SHARES = (0.1, 0.25, 0.5, 1.0)


def keep_share(prompt: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Weight 1 for the mismatches of a random share of the prompts, 0 for the others."""
    prompts = prompt.unique()
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(1000 + seed))
    return torch.isin(prompt, prompts[order[: round(share * len(prompts))]]).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, help="folder of the labels and features")
    parser.add_argument("--target", help="with --draft: the pair of the labels; by default the embedded one")
    parser.add_argument("--draft")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--problems", type=int, default=600, help="problems of the embedded pair to label")
    parser.add_argument("--splits", type=int, default=5, help="seeds of the split into training and validation")
    parser.add_argument("--validation-share", type=float, default=0.2)
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.target is None:
        target, draft, tokenizer = load_pair()
        task = word_problems_task()
        store = label_samples(target, draft, tokenizer, task, task.load("train", args.problems), args.labels)
    else:
        dtype = getattr(torch, args.dtype)
        target, draft = (
            AutoModelForCausalLM.from_pretrained(n, dtype=dtype).eval() for n in (args.target, args.draft)
        )
        store = LabelStore(args.labels)
    data = store_features(target, draft, store.labelled(), store.folder / "features")
    important, prompt = (torch.cat([getattr(part, name) for part in data]) for name in ("important", "prompt"))
    print(
        f"{len(important)} mismatches of {len(prompt.unique())} prompts, {important.double().mean():.1%} important\n"
    )

    def auc(features: Sequence[str], hidden_size: int, share: float = 1.0) -> str:
        found = []
        for seed in range(args.splits):
            weight = None if share == 1 else keep_share(prompt, share, seed)
            options = {"validation_share": args.validation_share, "hidden_size": hidden_size, "sample_weight": weight}
            found.append(fit_head(data, features, seed=seed, **options).auc)
        return f"{mean(found):.4f} ({min(found):.4f} to {max(found):.4f})"

    hidden = f"one hidden layer of {args.hidden_size}"
    lines = [(name, auc(names, 0), auc(names, args.hidden_size)) for name, names in SETS.items()]
    print(markdown_table(("the head reads", "linear", hidden), lines), end="\n\n")
    curve = [
        (f"{share:.0%}", *(auc(names, size, share) for names in CURVE.values() for size in (0, args.hidden_size)))
        for share in SHARES
    ]
    heads = [f"{name}, {kind}" for name in CURVE for kind in ("linear", hidden)]
    print(markdown_table(("training prompts used", *heads), curve))
    print("\nAUC: mean of the splits (smallest to largest)")


if __name__ == "__main__":
    main()
