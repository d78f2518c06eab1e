"""How the published judge of the embedded pair was trained: label, fit, tune the draft length, calibrate.

    python examples/train_embedded_judge.py --output-dir hub_cards/embedded-pair --labels-dir /tmp/labels
    python examples/compare_judges.py --judge hub_cards/embedded-pair

Labels are mined on training problems, the threshold is chosen on validation problems; the second command measures the
judge on test problems, which nothing else has seen. This takes about 20 minutes on two CPU cores. Labelling resumes
where it was interrupted.
"""

from __future__ import annotations

import argparse

import torch

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.judges.configuration_autojudge import FEATURES
from hf_autojudge.training import JudgeTrainer, JudgeTrainingArguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", required=True, help="folder of the judge and its reports")
    parser.add_argument("--labels-dir", required=True, help="folder of the labels")
    parser.add_argument("--num-assistant-tokens", type=int, help="candidates per round; by default the fastest number")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    args = JudgeTrainingArguments(
        output_dir=options.output_dir,
        labels_dir=options.labels_dir,
        max_train_samples=4000,
        max_validation_samples=1000,
        label_batch_size=64,
        eval_batch_size=64,
        features=list(FEATURES),
        hidden_size=64,
        validation_share=0.25,
        num_assistant_tokens=options.num_assistant_tokens,
        tune_draft_length=options.num_assistant_tokens is None,
    )
    print(JudgeTrainer(*load_pair(), word_problems_task(), args).train().reason)


if __name__ == "__main__":
    main()
