"""Standardised rows to fit on: held on the device as one matrix, or read anew, block by block, in every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hf_autojudge.training.features import MismatchFeatures

BLOCK, BLOCK_ON_GPU = 2**22, 2**26  # numbers: what a processor's cache holds; what keeps a GPU busy


@dataclass(frozen=True)
class Standardiser:
    """Column means and standard deviations: `x -> (x - mean) / scale`, both of shape `(D,)`."""

    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def fit(cls, blocks: Iterable[torch.Tensor]) -> Standardiser:
        """Of the rows of matrices of shape `(n, D)`. A constant column gets scale 1, as in scikit-learn's
        `StandardScaler`.

        Each block's moments are taken about its own mean and merged in float64 (Chan, Golub and LeVeque, "Updating
        formulae and a pairwise algorithm for computing sample variances", 1979): nothing cancels.
        """
        count = 0
        for x in blocks:
            if count == 0:
                mean, squares = x.new_zeros(2, x.shape[1], dtype=torch.float64)
                largest = x.new_zeros(x.shape[1])
            about = x.mean(0)
            largest = torch.maximum(largest, x.abs().amax(0))
            x = x - about
            rest = x.mean(0).double()  # what rounding left in `about`
            n, delta = len(x), about.double() + rest - mean
            squares += x.square().sum(0).double() - n * rest.square() + delta.square() * (count * n / (count + n))
            mean += delta * (n / (count + n))
            count += n
        scale = (squares / count).clamp(min=0).sqrt().to(largest.dtype)
        # A constant column has a deviation of rounding errors, not of exactly 0
        tiny = 10 * torch.finfo(largest.dtype).eps * largest
        return cls(mean.to(largest.dtype), torch.where(scale > tiny, scale, torch.ones_like(scale)))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        # the mean is taken off the values, not off sums: little is left of a large mean's rounding
        return (x - self.mean) / self.scale


class Rows:
    """N standardised rows of D features.

    Args:
        read (`Callable`): Gives the raw rows in order, as matrices `(n, D)` on the device they are wanted on, anew at
            every call.
        count (`int`): N.
        standardise ([`Standardiser`])
        hold (`bool`): Keep one standardised copy, instead of reading in every pass.
    """

    def __init__(
        self, read: Callable[[], Iterator[torch.Tensor]], count: int, standardise: Standardiser, hold: bool
    ) -> None:
        self._read = read
        self._count = count
        self._standardise = standardise
        self._held: torch.Tensor | None = None
        if hold:
            self._held = standardise.mean.new_empty(count, self.width)
            for rows, z in self._blocks():
                self._held[rows] = z

    def __len__(self) -> int:
        """N."""
        return self._count

    @property
    def width(self) -> int:
        """D."""
        return len(self._standardise.mean)

    def blocks(self, size: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Which rows, and the rows: in order, held ones at most `size` at once (default: [`block_rows`])."""
        if self._held is None:
            yield from self._blocks()
            return
        size = block_rows(self.width, self._held.device) if size is None else size
        for start in range(0, self._count, size):
            rows = slice(start, min(start + size, self._count))
            yield rows, self._held[rows]

    def _blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        start = 0
        for x in self._read():
            yield slice(start, start + len(x)), self._standardise(x)
            start += len(x)

    def scores(self, weights: torch.Tensor, biases: torch.Tensor) -> torch.Tensor:
        """`rows @ weights + biases`: weights of shape `(D, S)`, biases `(S,)`, result `(N, S)`."""
        return torch.cat([z @ weights + biases for _, z in self.blocks()])


def block_rows(width: int, device: str | torch.device) -> int:
    """Rows that a pass takes at once."""
    return max(1, (BLOCK if torch.device(device).type == "cpu" else BLOCK_ON_GPU) // width)


def read_rows(
    parts: Sequence[MismatchFeatures],
    features: Sequence[str],
    wanted: torch.Tensor,
    device: str | torch.device,
    dtype: torch.dtype,
    check: bool = False,
) -> Iterator[torch.Tensor]:
    """The wanted rows of all parts, raw, in blocks on the device. `wanted`: `(N,)`, bool.

    Raises:
        ValueError: With `check`, if a block holds numbers that are not finite; the message counts them in all parts.
    """
    width = sum(parts[0].states[name].shape[-1] for name in features)
    start = 0
    for part in parts:
        index = wanted[start : start + len(part)].nonzero()[:, 0]
        start += len(part)
        for rows in index.split(block_rows(width, device)):
            if len(rows):
                x = torch.cat([part.states[name][rows].to(device).to(dtype) for name in features], dim=-1)
                if check and not x.sum().isfinite():  # one sum shows any; which and how many, only then
                    refuse_not_finite(parts, features, dtype)
                yield x


def refuse_not_finite(parts: Sequence[MismatchFeatures], features: Sequence[str], dtype: torch.dtype) -> None:
    """Look through all rows.

    Raises:
        ValueError: If a feature is NaN or infinite somewhere, as read in `dtype`; names each and its number of rows.
    """
    counts = dict.fromkeys(features, 0)
    for name in features:
        for part in parts:
            for x in part.states[name].split(block_rows(part.states[name].shape[-1], "cpu")):
                counts[name] += int((~x.to(dtype).isfinite()).any(-1).sum())
    if any(counts.values()):
        found = ", ".join(f"{name!r} in {count}" for name, count in counts.items() if count)
        raise ValueError(
            f"Features are NaN or infinite: {found} of {sum(map(len, parts))} mismatches; a model in float16 may "
            "have overflowed, so collect them in bfloat16 or float32."
        )


def free_memory(device: str | torch.device) -> int:
    """Bytes that can be taken now."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**62  # not told here: hold the rows, as most data are small
