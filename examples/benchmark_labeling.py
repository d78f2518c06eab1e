r"""Labelling, many searches at once, against the plain search: same labels, how many passes, how much time.

python examples/benchmark_labeling.py --limit 200
python examples/benchmark_labeling.py --target target-1.5b --draft draft-0.5b --data gsm8k_train.jsonl --limit 6 \
    --reference 1
python examples/benchmark_labeling.py --target target-1.5b --draft draft-0.5b --data gsm8k_train.jsonl --limit 100 \
    --seconds 600 --dtype bfloat16 --threads 2 --batch 16 32

The plain search is algorithm 1 of AutoJudge (arXiv 2504.20039) as its authors' scripts run it: one prompt at a time,
`generate` for each alternative, a pass of the draft over the whole response for each mismatch. With `--reference N` it
runs on the first N prompts only; times and passes are then compared per mismatch. In float32 the labels must be equal;
in bfloat16 the two models' tokens depend a little on the shapes of the passes, and the share of labels that differ is
printed. With `--seconds` each batch size runs that long, also on prompts that it does not finish, and a table shows
mismatches an hour, what is run for each token written, and which guesses are taken.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.labeling import AutoJudge, LabelledPrompt, Mismatch, find_important_tokens
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.progress import LabelingProgress
from hf_autojudge.provenance import write_json
from hf_autojudge.tasks import gsm8k_task

SameOutcome = Callable[[list[int], list[int]], bool]


class Passes:
    """Counts a model's forward passes and the tokens run in them."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.calls = self.tokens = 0
        self._hook = model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module: Any, args: tuple, inputs: dict) -> None:
        ids = args[0] if args else inputs["input_ids"]
        self.calls += 1
        self.tokens += ids.numel()

    def take(self) -> dict[str, int]:
        """What was counted since the last look."""
        found = {"passes": self.calls, "tokens": self.tokens}
        self.calls = self.tokens = 0
        return found

    def remove(self) -> None:
        """Stop counting."""
        self._hook.remove()


@torch.no_grad()
def plain_search(
    target: Any, draft: Any, prompt: list[int], same_outcome: SameOutcome, max_new_tokens: int
) -> LabelledPrompt:
    """Algorithm 1, in the plainest way that uses the models' caches."""
    start, max_length = len(prompt), len(prompt) + max_new_tokens
    ends = target.generation_config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else sorted(ends)

    def finish(sequence: list[int]) -> list[int]:
        if len(sequence) >= max_length or (len(sequence) > start and sequence[-1] in ends):
            return sequence
        config = GenerationConfig(
            max_length=max_length, do_sample=False, eos_token_id=ends or None, pad_token_id=min(ends, default=0)
        )
        ids = torch.tensor([sequence], device=target.device)
        return target.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[0].tolist()

    sequence = finish(prompt)
    reference = sequence[start:]
    mismatches: list[Mismatch] = []
    border = start
    while border < len(sequence):
        ids = torch.tensor([sequence], device=draft.device)
        choices = draft(ids).logits[0].argmax(-1).tolist()
        position = next((i for i in range(border, len(sequence)) if choices[i - 1] != sequence[i]), None)
        if position is None:
            break
        token = choices[position - 1]
        alternative = finish([*sequence[:position], token])
        important = not same_outcome(reference, alternative[start:])
        mismatches.append(Mismatch(position - start, sequence[position], token, important))
        if not important:
            sequence = alternative
        border = position + 1
    return LabelledPrompt(prompt, mismatches, reference, sequence[start:])


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
        "mismatches_per_hour": round(3600 * mismatches / seconds),
        **{name: counter.take() for name, counter in passes.items()},
    }


def compare_searches(
    target: Any,
    draft: Any,
    prompts: Sequence[list[int]],
    same_outcome: SameOutcome,
    max_new_tokens: int,
    batches: Sequence[int],
    reference: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Label the prompts with each batch size, then the first `reference` of them with the plain search.

    Yields:
        A name and its figures, as they are measured: `"batch 16"`, ..., `"plain"`, `"batch 16 against plain"`, ...
    """
    passes = {"target": Passes(target), "draft": Passes(draft)}
    try:
        found, figures = {}, {}
        for batch in batches:
            label = partial(find_important_tokens, target, draft, prompts, same_outcome, max_new_tokens)
            found[batch], figures[batch] = timed(partial(label, batch_size=batch), passes)
            yield f"batch {batch}", figures[batch]
        if not reference:
            return
        expected, plain = timed(
            lambda: [plain_search(target, draft, p, same_outcome, max_new_tokens) for p in prompts[:reference]],
            passes,
        )
        yield "plain", plain
        for batch, items in found.items():
            yield f"batch {batch} against plain", against_plain(items, figures[batch], expected, plain)
    finally:
        for counter in passes.values():
            counter.remove()


def against_plain(
    items: list[LabelledPrompt], ours: dict[str, Any], expected: list[LabelledPrompt], plain: dict[str, Any]
) -> dict[str, Any]:
    """How the labels differ from the plain search's, and the share of its passes and time that they took."""
    share = plain["mismatches"] / max(1, sum(len(item.mismatches) for item in items))  # of our work
    same = sum(a == b for a, b in zip(items, expected, strict=False))
    known = [{(m.position, m.draft_token): m.important for m in item.mismatches} for item in expected]
    labels = [
        known[i].get((m.position, m.draft_token)) == m.important
        for i, item in enumerate(items[: len(expected)])
        for m in item.mismatches
    ]
    return {
        "prompts with identical labels": f"{same} of {len(expected)}",
        "labels that differ": round(labels.count(False) / max(1, len(labels)), 4),
        "target passes": round(ours["target"]["passes"] * share / plain["target"]["passes"], 4),
        "time": round(ours["seconds"] * share / plain["seconds"], 4),
    }


def measure_speed(pair: Pair, jobs: Sequence[Job], batch_size: int, seconds: float) -> dict[str, Any]:
    """Label for so long, and count."""
    passes = {name: Passes(model) for name, model in pair.models.items()}
    progress = LabelingProgress(len(jobs), on_change=partial(stop_after, seconds))
    try:
        for _ in pair.run(AutoJudge(), jobs, batch_size, progress=progress):
            pass
    except TimeoutError:
        pass
    run = {name: counter.take()["tokens"] for name, counter in passes.items()}
    for counter in passes.values():
        counter.remove()
    speculation = progress.speculation
    assert speculation is not None
    return {
        "seconds": round(progress.seconds, 1),
        "prompts": progress.done,
        "mismatches": len(progress.labels),
        "important": sum(progress.labels),
        "mismatches an hour": round(3600 * len(progress.labels) / progress.seconds),
        "tokens written": speculation.written,
        "written a second": round(speculation.written / progress.seconds, 1),
        **{f"{name} tokens run a token": round(tokens / speculation.written, 2) for name, tokens in run.items()},
        **{
            f"{source}: guesses, share taken": f"{verified}, {taken / verified:.0%}"
            for source, (verified, taken) in speculation.counts.items()
        },
    }


def stop_after(seconds: float, progress: LabelingProgress) -> None:
    """Raise `TimeoutError` when a run has taken so long."""
    if progress.seconds > seconds:
        raise TimeoutError


def print_table(columns: dict[str, dict[str, Any]]) -> None:
    """One column for each batch size."""
    names = dict.fromkeys(name for figures in columns.values() for name in figures)
    print("".join(f"{text:>20}" if i else f"{text:40}" for i, text in enumerate(["", *columns])))
    for name in names:
        cells = [str(figures.get(name, "")) for figures in columns.values()]
        print(f"{name:40}" + "".join(f"{cell:>20}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="the embedded pair by default")
    parser.add_argument("--draft")
    parser.add_argument("--data", help="GSM8K's training split: a file or a data set of the Hub")
    parser.add_argument("--limit", type=int, default=200, help="number of prompts")
    parser.add_argument("--reference", type=int, help="prompts of the plain search; all by default, 0 for none")
    parser.add_argument("--batch", type=int, nargs="+", default=[16])
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="time each batch size instead, and print one table")
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
    samples = task.load("train", args.limit)
    prompts = [list(task.prompt(sample, tokenizer)) for sample in samples]

    def same_outcome(one: list[int], other: list[int]) -> bool:
        first, second = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (one, other))
        return task.same_outcome(samples[0], first, second)  # both tasks compare the answers alone

    if args.seconds:
        pair = Pair(target, draft)
        limit = args.max_new_tokens or task.max_new_tokens
        jobs = [Job(i, prompt, pair.limits(i, prompt, limit), same_outcome) for i, prompt in enumerate(prompts)]
        speeds = {f"batch {batch}": measure_speed(pair, jobs, batch, args.seconds) for batch in args.batch}
        print_table(speeds)
        if args.out:
            write_json(args.out, speeds)
        return
    count = len(prompts) if args.reference is None else args.reference
    length = args.max_new_tokens or task.max_new_tokens
    figures: dict[str, Any] = {"arguments": {k: v for k, v in vars(args).items() if k != "out"}}
    for name, found in compare_searches(target, draft, prompts, same_outcome, length, args.batch, count):
        figures[name] = found
        print(name, found, flush=True)
    if args.out:
        write_json(args.out, figures)


if __name__ == "__main__":
    main()
