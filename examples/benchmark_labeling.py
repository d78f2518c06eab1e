r"""Labelling, many searches at once, against the plain search: same labels, how many passes, how much time.

python examples/benchmark_labeling.py --limit 200
python examples/benchmark_labeling.py --target target-1.5b --draft draft-0.5b --data gsm8k_train.jsonl --limit 6 \
    --reference 1

The plain search is algorithm 1 of AutoJudge (arXiv 2504.20039) as its authors' scripts run it: one prompt at a time,
`generate` for each alternative, a pass of the draft over the whole response for each mismatch. With `--reference N` it
runs on the first N prompts only; times and passes are then compared per mismatch. In float32 the labels must be equal;
in bfloat16 the two models' tokens depend a little on the shapes of the passes, and the share of labels that differ is
printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.labeling import AutoJudge, LabelledPrompt, Mismatch
from hf_autojudge.labeling.local import make_job
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.tasks import gsm8k_task


class Passes:
    """Counts a model's forward passes and the tokens run in them."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.calls = self.tokens = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module: Any, args: tuple, inputs: dict) -> None:
        ids = args[0] if args else inputs["input_ids"]
        self.calls += 1
        self.tokens += ids.numel()

    def take(self) -> dict[str, int]:
        """What was counted since the last look."""
        found = {"passes": self.calls, "tokens": self.tokens}
        self.calls = self.tokens = 0
        return found


@torch.no_grad()
def plain_search(target: Any, draft: Any, job: Job) -> LabelledPrompt:
    """Algorithm 1, in the plainest way that uses the models' caches."""
    start, limits = len(job.prompt), job.limits

    def finish(text: list[int]) -> list[int]:
        if limits.finished(text):
            return text
        config = GenerationConfig(
            max_length=limits.max_length,
            do_sample=False,
            eos_token_id=sorted(limits.ends),
            pad_token_id=min(limits.ends),
        )
        ids = torch.tensor([text], device=target.device)
        return target.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[0].tolist()

    text = finish(job.prompt)
    reference = text[start:]
    mismatches: list[Mismatch] = []
    border = start
    while border < len(text):
        ids = torch.tensor([text], device=draft.device)
        choices = draft(ids).logits[0].argmax(-1).tolist()
        position = next((i for i in range(border, len(text)) if choices[i - 1] != text[i]), None)
        if position is None:
            break
        token = choices[position - 1]
        alternative = finish([*text[:position], token])
        important = not job.same_outcome(reference, alternative[start:])
        mismatches.append(Mismatch(position - start, text[position], token, important))
        if not important:
            text = alternative
        border = position + 1
    return LabelledPrompt(job.prompt, mismatches, reference, text[start:])


def timed(run: Callable[[], list[LabelledPrompt]], passes: dict[str, Passes]) -> tuple[list[LabelledPrompt], dict]:
    """What `run` gives, and its costs."""
    for counter in passes.values():
        counter.take()
    began = time.perf_counter()
    found = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    mismatches = sum(len(item.mismatches) for item in found)
    return found, {
        "prompts": len(found),
        "mismatches": mismatches,
        "important": sum(m.important for item in found for m in item.mismatches),
        "seconds": round(seconds, 2),
        "rows_per_hour": round(3600 * mismatches / seconds),
        **{name: counter.take() for name, counter in passes.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="the embedded pair by default")
    parser.add_argument("--draft")
    parser.add_argument("--data", help="GSM8K's training rows: a file or a data set of the Hub")
    parser.add_argument("--limit", type=int, default=200, help="prompts")
    parser.add_argument("--reference", type=int, help="prompts of the plain search; all by default, 0 for none")
    parser.add_argument("--batch", type=int, nargs="+", default=[16])
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    if args.target is None:
        target, draft, tokenizer = load_pair(args.device, dtype)
        task = word_problems_task()
    else:
        target, draft = (
            AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(args.device).eval()
            for name in (args.target, args.draft)
        )
        tokenizer = AutoTokenizer.from_pretrained(args.target)
        task = gsm8k_task(args.data) if args.data else gsm8k_task()
    rows = task.load("train", args.limit)
    pair = Pair(target, draft)
    length = args.max_new_tokens or task.max_new_tokens
    jobs = [make_job(pair, i, task.prompt(row, tokenizer), row, task, tokenizer, length) for i, row in enumerate(rows)]
    passes = {"target": Passes(target), "draft": Passes(draft)}

    figures: dict[str, Any] = {"arguments": {k: v for k, v in vars(args).items() if k != "out"}}
    found = {}
    for batch in args.batch:
        found[batch], figures[f"batch {batch}"] = timed(
            lambda batch=batch: [item for _, item in sorted(pair.run(AutoJudge(), jobs, batch))], passes
        )
        print(f"batch {batch}", figures[f"batch {batch}"], flush=True)
    count = len(jobs) if args.reference is None else args.reference
    if count:
        expected, plain = timed(lambda: [plain_search(target, draft, job) for job in jobs[:count]], passes)
        figures["plain"] = plain
        print("plain", plain, flush=True)
        for batch, items in found.items():
            ours = figures[f"batch {batch}"]
            share = plain["mismatches"] / sum(len(item.mismatches) for item in items)  # of our work
            same = sum(a == b for a, b in zip(items, expected, strict=False))
            rows_of = [{(m.position, m.draft_token): m.important for m in item.mismatches} for item in expected]
            labels = [
                rows_of[i].get((m.position, m.draft_token)) == m.important
                for i, item in enumerate(items[:count])
                for m in item.mismatches
            ]
            figures[f"batch {batch} against plain"] = {
                "prompts with identical labels": f"{same} of {count}",
                "labels that differ": round(1 - sum(labels) / max(1, len(labels)), 4),
                "target passes": round(ours["target"]["passes"] * share / plain["target"]["passes"], 4),
                "time": round(ours["seconds"] * share / plain["seconds"], 4),
            }
            print(f"batch {batch} against plain", figures[f"batch {batch} against plain"], flush=True)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
