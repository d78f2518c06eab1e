r"""What this package does on a GPU: its tokens, its speed, its labels and its fit, in one report.

Run from the repository's root; needs no network, and no installation of the package itself:

    PYTHONPATH=src python examples/gpu_report.py --part tokens --out gpu_report
    PYTHONPATH=src python examples/gpu_report.py --part speed --out gpu_report      # then compile, batch, label, fit
    PYTHONPATH=src python examples/gpu_report.py --part report --out gpu_report     # only collects what is there
    PYTHONPATH=src python examples/gpu_report.py --part all --out /tmp/tiny --tiny  # the whole path, on a CPU

Parts:
    tokens   in float32: tokens at threshold 0 equal plain greedy decoding's, and every judge's equal the CPU's, eager
             and compiled, one prompt and eight; host-device synchronizations per round
    speed    one prompt: the target alone, transformers' assisted generation and judged decoding, with the share of the
             memory bandwidth; Llama-3.1-8B and 1B shapes in bfloat16, and the embedded pair
    compile  the same, compiled
    batch    eight prompts, eager and compiled
    label    labelling, many searches at once, and the plain search
    fit      the grid of penalties on 150,000 x 6,144 features

After `--seconds` a part starts no new measurement; its file names those left out. Each part writes `<part>.json` after
each measurement, so that a part that is killed loses one only. A measurement that fails does not stop the others. (But
after an illegal memory access nothing runs on the GPU any more in the same process, so run the parts separately.) At
the end `report.md` and `report.png` are made from all files in `--out`. The exit status is 1 if a measurement failed.
Each part takes at most some 8 minutes. The GPU must hold an 8B and a 1B model in bfloat16, 18 GB, with their caches.

Needs torch, transformers, safetensors and numpy; `label` also datasets; `fit` also datasets and scikit-learn; the
picture matplotlib:

    pip install "torch>=2.6" "transformers>=5.17,<6" safetensors numpy datasets scikit-learn matplotlib
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from decoding_speed import copy_bandwidth
from gpu_report_decoding import (
    TINY,
    Measurement,
    Pairs,
    Record,
    Sizes,
    batch_measurements,
    compile_measurements,
    speed_measurements,
    token_measurements,
)
from gpu_report_training import fit_measurements, label_measurements

from hf_autojudge.provenance import command_line, read_json, versions, write_json

PARTS = ("tokens", "speed", "compile", "batch", "label", "fit")
COLUMNS = (
    "part | setting | method | tokens/s | x alone | ms a round | of bandwidth | accepted | syncs a round | peak GB"
)
COLUMNS += " | note"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[*PARTS, "all", "report"], default="all")
    parser.add_argument("--out", type=Path, default=Path("gpu_report"), help="folder of the files")
    parser.add_argument("--seconds", type=float, default=440, help="start no new measurement of a part after these")
    parser.add_argument("--tiny", action="store_true", help="small stand-ins, on a CPU")
    args = parser.parse_args(arguments)
    if args.part != "report" and not args.tiny and not torch.cuda.is_available():
        parser.error("There is no CUDA device; --tiny runs small stand-ins on a CPU.")
    parts = {"all": PARTS, "report": ()}.get(args.part, (args.part,))
    sizes = TINY if args.tiny else Sizes()
    transformers.utils.logging.disable_progress_bar()
    failed = sum(run_part(part, sizes, args.out, args.seconds) for part in parts)
    reports = collect(args.out)
    if not reports:
        parser.error(f"{args.out} holds no part's file; run a part first.")
    if args.part == "report":
        failed = sum("error" in record for report in reports for record in report["records"])
    text = summary(reports)
    print(text)
    (args.out / "report.md").write_text(text + "\n", encoding="utf-8")
    try:
        draw(reports, args.out / "report.png")
    except ImportError:
        print("No picture was drawn, because matplotlib is not installed.")
    return 1 if failed else 0


def measurements_of(part: str, sizes: Sizes, pairs: Pairs, bandwidth: float) -> list[Measurement]:
    if part == "tokens":
        return token_measurements(sizes, pairs)
    if part == "label":
        return label_measurements(sizes, pairs)
    if part == "fit":
        return fit_measurements(sizes)
    of_part = {"speed": speed_measurements, "compile": compile_measurements, "batch": batch_measurements}
    return of_part[part](sizes, pairs, bandwidth)


def run_part(part: str, sizes: Sizes, out: Path, seconds: float) -> int:
    """Run a part, writing `<part>.json` after each measurement. Returns how many failed."""
    bandwidth = copy_bandwidth(sizes.device)
    pairs = Pairs()
    measurements = measurements_of(part, sizes, pairs, bandwidth)
    report: dict[str, Any] = {
        "part": part,
        "command": command_line(),
        "machine": machine(sizes.device) | {"copy_bandwidth": bandwidth},
        "sizes": vars(sizes),
        "records": [],
        "left_out": [name for name, _ in measurements],
        "seconds": 0.0,
    }
    began = time.perf_counter()

    def save() -> None:
        report["seconds"] = time.perf_counter() - began
        # JSON has no NaN
        write_json(out / f"{part}.json", json.loads(json.dumps(report), parse_constant=lambda _: None))

    save()
    for name, function in measurements:
        if time.perf_counter() - began >= seconds:
            print(f"{part}: {name}: left out after {seconds:.0f} s", flush=True)
            continue
        print(f"{part}: {name} ...", flush=True)
        report["left_out"].remove(name)
        report["records"] += run_measurement(name, function, sizes.device)
        save()
    pairs.free()
    return sum("error" in record for record in report["records"])


def run_measurement(name: str, function: Any, device: str) -> list[Record]:
    """Records of a measurement, with its time and peak memory; of one that fails, the error."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    try:
        records = function()
    except Exception as error:
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        records = [{"setting": name, "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}]
    measured = {"measurement": name, "elapsed": time.perf_counter() - start}
    if device == "cuda":
        measured["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    for record in records:
        print(f"    {record.get('method', '')}  {shown(record)}", flush=True)
    return [measured | record for record in records]


def machine(device: str) -> dict[str, Any]:
    """What ran."""
    known: dict[str, Any] = {"device": "CPU", "cpu_threads": torch.get_num_threads()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        known |= {"device": properties.name, "memory_gb": properties.total_memory / 1e9, "cuda": torch.version.cuda}
    return known | versions("torch", "transformers")


def collect(out: Path) -> list[dict[str, Any]]:
    """The files of all parts that have run."""
    return [read_json(out / f"{part}.json") for part in PARTS if (out / f"{part}.json").exists()]


def summary(reports: list[dict[str, Any]]) -> str:
    """One Markdown table, with the machine before it and what was left out after it."""
    found = reports[0]["machine"]
    names = ", ".join(f"{name} {found[name]}" for name in ("torch", "transformers", "cuda") if name in found)
    lines = [f"{found['device']}, {names}, copy bandwidth {found['copy_bandwidth'] / 1e9:,.0f} GB/s", ""]
    lines += [f"| {COLUMNS} |", "|---|---|---|" + "---:|" * (COLUMNS.count("|") - 3) + "---|"]
    alone = speed_alone(reports)
    for report in reports:
        for record in report["records"]:
            cells = [report["part"], record["setting"], record.get("method", ""), *figures(record, alone)]
            error = f"**FAILED**: {record['error']} " if "error" in record else ""
            note = " ".join((error + record.get("note", "")).split()).replace("|", "/")
            lines.append(f"| {' | '.join([*cells, note])} |")
    left_out = [f"{report['part']}: {name}" for report in reports for name in report["left_out"]]
    failed = sum("error" in record for report in reports for record in report["records"])
    lines += ["", f"{failed} failed. Left out: {'; '.join(left_out) or 'nothing'}."]
    return "\n".join(lines)


def speed_alone(reports: list[dict[str, Any]]) -> dict[tuple, float]:
    """Tokens per second of the target alone, eager, by pair and batch."""
    records = [record for report in reports for record in report["records"]]
    return {(r["pair"], r["batch"]): r["tokens_per_second"] for r in records if pair_and_method(r) == "plain greedy"}


def pair_and_method(record: Record) -> str | None:
    return record["method"] if "pair" in record and "tokens_per_second" in record else None


def figures(record: Record, alone: dict[tuple, float]) -> list[str]:
    """The cells of a record's numbers; empty where it has none."""
    base = alone.get((record.get("pair"), record.get("batch")))
    speed = record.get("tokens_per_second")
    values = [
        (speed, "{:,.0f}"),
        (speed / base if speed and base else None, "{:.2f}"),
        (record.get("round_ms"), "{:.2f}"),
        (record.get("bandwidth_share"), "{:.0%}"),
        (record.get("accepted_per_target_call"), "{:.2f}"),
        (record.get("synchronizations_per_round"), "{:.2f}"),
        (record.get("peak_gb"), "{:.1f}"),
    ]
    return ["" if value is None else form.format(value) for value, form in values]


def draw(reports: list[dict[str, Any]], path: Path) -> None:
    """Draw bars of tokens per second, one panel for each pair and batch, and one of labels per hour.

    Raises:
        ImportError: Without matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: dict[str, list[tuple[str, float, str]]] = {}
    for record in (record for report in reports for record in report["records"]):
        if (method := pair_and_method(record)) is not None:
            candidates = record["setting"].split(", ")[1]
            label = method if method.endswith("greedy") else f"{method}, {candidates}"
            speed = record["tokens_per_second"]
            bar = (label, speed, f"{speed:,.0f} ({record['bandwidth_share']:.0%})")
            title = f"{record['pair']}, batch {record['batch']}: tokens/s (share of the memory bandwidth)"
            panels.setdefault(title, []).append(bar)
        elif "labels_per_hour" in record:
            label = f"{record['setting'].split(',')[0]}, {record['setting'].split(', ')[-1]}, {record['method']}"
            bar = (label, record["labels_per_hour"], f"{record['labels_per_hour']:,}")
            panels.setdefault("labels per hour", []).append(bar)
    if not panels:
        return
    heights = [len(bars) + 1.5 for bars in panels.values()]
    figure, axes = pyplot.subplots(
        len(panels), 1, squeeze=False, figsize=(10, 0.32 * sum(heights) + 0.5), height_ratios=heights
    )
    for axis, (title, bars) in zip(axes[:, 0], panels.items(), strict=True):
        drawn = axis.barh([str(i) for i in range(len(bars))], [value for _, value, _ in bars])
        axis.bar_label(drawn, [text for _, _, text in bars], padding=3)
        axis.set_yticks(range(len(bars)), [label for label, _, _ in bars])
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(title, loc="left", fontsize="medium")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def shown(record: Record) -> str:
    """A line for the log."""
    speed = f"{record['tokens_per_second']:,.0f} tokens/s " if "tokens_per_second" in record else ""
    return speed + record.get("note", "") + (f" FAILED: {record['error']}" if "error" in record else "")


if __name__ == "__main__":
    sys.exit(main())
