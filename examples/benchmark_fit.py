"""Time the fit of the whole grid of penalties, ours and scikit-learn's, on the same synthetic features.

python examples/benchmark_fit.py --threads 2
python examples/benchmark_fit.py --rows 150000 --features 6144 --ours-only --threads 2      # or --device cuda

The columns are correlated like hidden states: a low-rank part with a decaying spectrum plus noise, with a different
mean and scale in each column. 19% of the rows are positive, and the true probabilities rank them with an AUC of about
0.83. The features are written to a folder as bfloat16 shards and read memory-mapped, as `fit_store` does.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score

from hf_autojudge.training.features import MismatchFeatures
from hf_autojudge.training.fitting import C_GRID, fit_head, split_prompts

NAME = "draft_token.target"
SHARD = 8192


def write_features(folder: Path, rows: int, features: int, signal: float, seed: int = 0) -> None:
    """Write shards of synthetic features, with ten mismatches per prompt."""
    generator = torch.Generator().manual_seed(seed)
    rank = max(8, features // 4)
    spectrum = torch.arange(1, rank + 1) ** -0.5
    mixing = torch.randn(rank, features, generator=generator) * spectrum[:, None]
    mixing /= mixing.norm(dim=0)
    toward = torch.randn(rank, generator=generator) * spectrum**0.5
    toward *= signal / toward.norm()
    scale = (torch.randn(features, generator=generator) * 0.7).exp()
    mean = torch.randn(features, generator=generator) * scale
    trial = (torch.randn(200_000, generator=generator) * signal).double()
    low, high = -20.0, 20.0
    for _ in range(50):  # find the bias that gives 19% positives
        middle = (low + high) / 2
        low, high = (middle, high) if (trial + middle).sigmoid().mean() < 0.19 else (low, middle)
    for start in range(0, rows, SHARD):
        n = min(SHARD, rows - start)
        factors = torch.randn(n, rank, generator=generator)
        x = factors @ mixing + 0.5 * torch.randn(n, features, generator=generator)
        important = torch.rand(n, generator=generator) < (factors @ toward + low).sigmoid()
        prompt = torch.arange(start, start + n) // 10
        part = MismatchFeatures({NAME: (x * scale + mean).bfloat16()}, important, prompt)
        part.save(folder / f"{start:08d}.safetensors")


def scikit_learn(parts: list[MismatchFeatures], c_grid: list[float], max_iter: int) -> None:
    """Fit with scikit-learn in float32, with the same split, standardization and grid."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore", ConvergenceWarning)
    held_out = split_prompts(torch.cat([part.prompt for part in parts]), 0.1, 0)
    y = torch.cat([part.important for part in parts])
    x = torch.cat([part.matrix([NAME]) for part in parts])
    start = time.perf_counter()
    mean, deviation = x[~held_out].mean(0), x[~held_out].std(0)
    x = (x - mean) / deviation
    train, validation = x[~held_out].numpy(), x[held_out].numpy()
    setup = time.perf_counter() - start
    print("scikit-learn:       C   seconds  iterations  validation AUC")
    cpu = time.process_time()
    total, best, over = setup, 0.0, 0
    for c in c_grid:
        start = time.perf_counter()
        model = LogisticRegression(C=c, solver="lbfgs", max_iter=max_iter).fit(train, y[~held_out].numpy())
        auc = roc_auc_score(y[held_out].numpy(), model.decision_function(validation))
        seconds = time.perf_counter() - start
        total += seconds
        best = max(best, auc)
        iterations = int(model.n_iter_[0])
        over += iterations >= 1000
        print(f"{c:21.3g} {seconds:9.2f} {iterations:11d} {auc:15.4f}", flush=True)
    print(
        f"scikit-learn: {total:.1f} s ({time.process_time() - cpu:.1f} s of CPU time) for the grid, best AUC "
        f"{best:.4f}, {over} fits of 1000 iterations or more"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--signal", type=float, default=1.7, help="standard deviation of the true logits")
    parser.add_argument(
        "--folder", type=Path, help="folder to keep the features in, or that holds them; default: a temporary one"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--stream", action="store_true", help="read the features in every pass, without a copy in memory"
    )
    parser.add_argument("--hidden-size", type=int, default=0, help="fit a head with a hidden layer instead")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument(
        "--max-iter", type=int, default=20_000, help="of scikit-learn, whose default of 100 is too small"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        folder = args.folder or Path(scratch)
        if not any(folder.glob("*.safetensors")):
            write_features(folder, args.rows, args.features, args.signal)
            print(f"written in {time.perf_counter() - start:.0f} s", flush=True)
        parts = [MismatchFeatures.load(path) for path in sorted(folder.glob("*.safetensors"))]
        print(f"{sum(map(len, parts))} x {parts[0].states[NAME].shape[1]} features, bfloat16", flush=True)
        before = peak(args.device)
        start, cpu = time.perf_counter(), time.process_time()
        hold = False if args.stream else None
        result = fit_head(parts, [NAME], device=args.device, hold=hold, hidden_size=args.hidden_size)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        for row in result.grid:
            print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        print(
            f"ours: {seconds:.1f} s ({cpu:.1f} s of CPU time) for {'a network' if args.hidden_size else 'the grid'}, "
            f"best AUC {result.auc:.4f}, C {result.c}, peak memory {peak(args.device):.2f} GB (before: {before:.2f})",
            flush=True,
        )
        if not args.ours_only:
            scikit_learn(parts, sorted(C_GRID), args.max_iter)


def peak(device: str) -> float:
    """Peak memory in GB of the GPU, or of the process including memory-mapped pages."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
