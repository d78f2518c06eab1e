"""What gpu_report.py measures of labelling and fitting: see gpu_report_decoding.py for the form.

Imports what needs further packages only where it is used, so that the other parts run without them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from benchmark_decoding import make_prompts
from decoding_speed import Settings, now
from gpu_report_decoding import Measurement, Pairs, Record, Sizes
from transformers import AutoTokenizer

from hf_autojudge.demo.embedded import PAIR
from hf_autojudge.demo.problems import final_number, make_problems, prompt

SameOutcome = Callable[[list[int], list[int]], bool]
Features = Callable[[], tuple[tempfile.TemporaryDirectory, Record]]
IMPORTANT = 5  # of the random pair's mismatches every fifth is important: about as many as were mined on GSM8K


def label_measurements(sizes: Sizes, pairs: Pairs) -> list[Measurement]:
    """Part `label`: many searches at once, and the plain search."""
    embedded, random = sizes.embedded(), sizes.random()[0]
    found = [
        (f"labels, embedded, {dtype}", partial(label_embedded, sizes, pairs, replace(embedded, dtype=dtype)))
        for dtype in dict.fromkeys(("float32", sizes.dtype))
    ]
    return [*found, (f"labels, {random.pair}, {random.dtype}", partial(label_random, sizes, pairs, random))]


def label_embedded(sizes: Sizes, pairs: Pairs, settings: Settings) -> list[Record]:
    """Labels of the embedded pair's training problems."""
    tokenizer = AutoTokenizer.from_pretrained(PAIR / "target")
    prompts = [tokenizer(prompt(p))["input_ids"] for p in make_problems("train", sizes.label_prompts)]

    def same_outcome(one: list[int], other: list[int]) -> bool:
        first, second = (final_number(tokenizer.decode(ids, skip_special_tokens=True)) for ids in (one, other))
        return first == second

    lengths = (sizes.label_tokens, sizes.label_batches, sizes.label_reference)
    return compare(pairs, settings, prompts, same_outcome, *lengths)


def label_random(sizes: Sizes, pairs: Pairs, settings: Settings) -> list[Record]:
    """Labels of the random pair, which mismatches once in every `accepted + 1` tokens."""
    prompts = make_prompts(settings, sizes.random_label_prompts)["input_ids"].tolist()

    def same_outcome(reference: list[int], alternative: list[int]) -> bool:
        """Judged by where the last swap is."""
        both = enumerate(zip(reference, alternative, strict=False))
        last = max((place for place, (a, b) in both if a != b), default=0)
        return (last // (settings.accepted + 1)) % IMPORTANT != 0

    batches = (min(sizes.random_label_prompts, max(sizes.label_batches)),)
    return compare(pairs, settings, prompts, same_outcome, sizes.random_label_tokens, batches, reference=1)


def compare(
    pairs: Pairs,
    settings: Settings,
    prompts: list[list[int]],
    same_outcome: SameOutcome,
    length: int,
    batches: Sequence[int],
    reference: int,
) -> list[Record]:
    """A record for each batch size, and one for the plain search. In float32 a difference is an error."""
    from benchmark_labeling import compare_searches

    target, draft, _ = pairs.get(settings)
    list(compare_searches(target, draft, prompts[:1], same_outcome, length, [1], reference=0))  # warms up
    records: dict[str, Record] = {}
    for name, figures in compare_searches(target, draft, prompts, same_outcome, length, batches, reference):
        if name.endswith(" against plain"):
            record = records[name.removesuffix(" against plain")]
            record["against_plain"] = figures
            same = figures["prompts with identical labels"]
            record["note"] += f"; {same} prompts labelled as by the plain search, {figures['time']:.2g} of its time"
            if settings.dtype == "float32" and figures["labels that differ"]:
                record["error"] = f"only {same} prompts have the plain search's labels, which float32 should give"
            continue
        passes = figures["target"]["passes"]
        records[name] = figures | {
            "setting": f"{settings.pair}, {len(prompts)} prompts, {settings.dtype}",
            "method": "plain search" if name == "plain" else name.replace("batch", "searches at once:"),
            "tokens_per_second": figures["target"]["tokens"] / figures["seconds"],
            "labels_per_hour": figures["mismatches_per_hour"],
            "note": f"{figures['mismatches_per_hour']:,} labels an hour; {figures['prompts']} prompts, "
            f"{figures['mismatches']} labels ({figures['important']} important), {passes:,} target passes",
        }
    return list(records.values())


def fit_measurements(sizes: Sizes) -> list[Measurement]:
    """Part `fit`: the whole grid of penalties, with the features held on the device, on the CPU, and streamed."""
    features: Features = cache(partial(write_features, sizes))
    scores: dict[str, torch.Tensor] = {}
    found: list[Measurement] = [("features", lambda: [features()[1]])]
    for device, hold in dict.fromkeys([(sizes.device, True), ("cpu", True), (sizes.device, False)]):
        name = f"{device}, {'held' if hold else 'streamed'}"
        found.append((f"fit, {name}", partial(fit, sizes, features, name, device, hold, scores)))
    return found


def write_features(sizes: Sizes) -> tuple[tempfile.TemporaryDirectory, Record]:
    """Synthetic features on the disk, removed with the object that is returned."""
    from benchmark_fit import write_features

    folder = tempfile.TemporaryDirectory()
    start = time.perf_counter()
    write_features(Path(folder.name), sizes.fit_mismatches, sizes.fit_features, 1.7)
    seconds = time.perf_counter() - start
    setting = f"{sizes.fit_mismatches:,} x {sizes.fit_features:,}"
    return folder, {"setting": setting, "method": "write features", "note": f"{seconds:.1f} s"}


def fit(
    sizes: Sizes, features: Features, name: str, device: str, hold: bool, scores: dict[str, torch.Tensor]
) -> list[Record]:
    """One fit. Scores of the validation mismatches are compared with those of the fits before."""
    from benchmark_fit import NAME

    from hf_autojudge.training.features import MismatchFeatures
    from hf_autojudge.training.fitting import fit_head

    parts = [MismatchFeatures.load(path) for path in sorted(Path(features()[0].name).glob("*.safetensors"))]
    fit_head(parts[:1], [NAME], c_grid=[1e-3], device=device)  # loads the device's libraries
    start = now(device)
    result = fit_head(parts, [NAME], device=device, hold=hold)
    seconds = now(device) - start
    apart = {other: float((result.validation_scores - s).abs().max()) for other, s in scores.items()}
    scores[name] = result.validation_scores
    note = f"{seconds:.1f} s, validation AUC {result.auc:.4f}, C {result.c:.3g}"
    if apart:
        note += f"; validation scores at most {max(apart.values()):.1g} from the other fits'"
    record: Record = {
        "setting": f"{sizes.fit_mismatches:,} x {sizes.fit_features:,}",
        "method": name,
        "seconds": seconds,
        "auc": result.auc,
        "c": result.c,
        "largest_difference": apart,
        "note": note,
    }
    if max(apart.values(), default=0.0) > 0.01:
        record["error"] = f"validation scores differ from another fit's by {max(apart.values()):.2g}"
    return [record]
