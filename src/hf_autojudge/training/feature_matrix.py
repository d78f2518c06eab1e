"""The standardized matrix a head is fitted on: in memory, or read from its files block by block in every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hf_autojudge.training.features import MismatchFeatures

BLOCK, BLOCK_ON_GPU = 2**22, 2**26  # numbers per block: what fits a CPU's cache; what keeps a GPU busy


@dataclass(frozen=True)
class Standardizer:
    """Column means and standard deviations, both of shape `(D,)`. Maps x to `(x - mean) / scale`."""

    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def fit(cls, blocks: Iterable[torch.Tensor]) -> Standardizer:
        """Fit to the rows of matrices of shape `(n, D)`. A constant column gets scale 1, as in scikit-learn's
        `StandardScaler`.

        The moments of each block are taken about the block's own mean and merged in float64, which avoids cancellation
        (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
        """
        count = 0
        for x in blocks:
            if count == 0:
                mean, squares = x.new_zeros(2, x.shape[1], dtype=torch.float64)
                largest = x.new_zeros(x.shape[1])
            center = x.mean(0)
            largest = torch.maximum(largest, x.abs().amax(0))
            x = x - center
            residual = x.mean(0).double()  # the rounding error of `center`
            n, delta = len(x), center.double() + residual - mean
            squares += x.square().sum(0).double() - n * residual.square() + delta.square() * (count * n / (count + n))
            mean += delta * (n / (count + n))
            count += n
        scale = (squares / count).clamp(min=0).sqrt().to(largest.dtype)
        # Rounding gives a constant column a small deviation instead of exactly 0
        tiny = 10 * torch.finfo(largest.dtype).eps * largest
        return cls(mean.to(largest.dtype), torch.where(scale > tiny, scale, torch.ones_like(scale)))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        # Subtracting from each value, rather than from sums, loses little to rounding when the mean is large
        return (x - self.mean) / self.scale


class FeatureMatrix:
    """A standardized matrix of N rows (mismatches) and D columns (features).

    Args:
        read (`Callable`): Returns an iterator over the raw rows in order, in blocks of shape `(n, D)` on the device to
            fit on. Called once for each pass over the matrix.
        count (`int`): N.
        standardizer ([`Standardizer`]): Applied to every block.
        hold (`bool`): Keep one standardized copy in memory, instead of reading in every pass.
    """

    def __init__(
        self, read: Callable[[], Iterator[torch.Tensor]], count: int, standardizer: Standardizer, hold: bool
    ) -> None:
        self._read = read
        self._count = count
        self._standardizer = standardizer
        self._held: torch.Tensor | None = None
        if hold:
            self._held = standardizer.mean.new_empty(count, self.width)
            for rows, z in self._read_blocks():
                self._held[rows] = z

    def __len__(self) -> int:
        """N."""
        return self._count

    @property
    def width(self) -> int:
        """D."""
        return len(self._standardizer.mean)

    def blocks(self, size: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """The matrix in order, as pairs of a slice of row numbers and those rows. A matrix in memory gives at most
        `size` rows at once (default: [`rows_per_block`])."""
        if self._held is None:
            yield from self._read_blocks()
            return
        size = rows_per_block(self.width, self._held.device) if size is None else size
        for start in range(0, self._count, size):
            rows = slice(start, min(start + size, self._count))
            yield rows, self._held[rows]

    def _read_blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        start = 0
        for x in self._read():
            yield slice(start, start + len(x)), self._standardizer(x)
            start += len(x)

    def scores(self, weights: torch.Tensor, biases: torch.Tensor) -> torch.Tensor:
        """`matrix @ weights + biases`: weights of shape `(D, S)`, biases `(S,)`, result `(N, S)`."""
        return torch.cat([z @ weights + biases for _, z in self.blocks()])


def rows_per_block(width: int, device: str | torch.device) -> int:
    """How many rows of `width` numbers to process at once."""
    return max(1, (BLOCK if torch.device(device).type == "cpu" else BLOCK_ON_GPU) // width)


def read_blocks(
    parts: Sequence[MismatchFeatures],
    features: Sequence[str],
    selected: torch.Tensor,
    device: str | torch.device,
    dtype: torch.dtype,
    check: bool = False,
) -> Iterator[torch.Tensor]:
    """Read the selected mismatches (`selected`: bool, shape `(N,)`) of all parts as raw rows, block by block.

    Raises:
        ValueError: With `check`, if a block holds numbers that are not finite; see [`check_finite`].
    """
    width = sum(parts[0].states[name].shape[-1] for name in features)
    start = 0
    for part in parts:
        index = selected[start : start + len(part)].nonzero()[:, 0]
        start += len(part)
        for rows in index.split(rows_per_block(width, device)):
            if len(rows):
                x = torch.cat([part.states[name][rows].to(device).to(dtype) for name in features], dim=-1)
                if check and not x.sum().isfinite():  # cheap; the sum of finite numbers can overflow, so look closer
                    check_finite(parts, features, dtype)
                yield x


def check_finite(parts: Sequence[MismatchFeatures], features: Sequence[str], dtype: torch.dtype) -> None:
    """Check every number of the named features.

    Raises:
        ValueError: If a feature is NaN or infinite for some mismatch, as read in `dtype`; the message names each such
            feature and its number of mismatches.
    """
    counts = dict.fromkeys(features, 0)
    for name in features:
        for part in parts:
            for x in part.states[name].split(rows_per_block(part.states[name].shape[-1], "cpu")):
                counts[name] += int((~x.to(dtype).isfinite()).any(-1).sum())
    if any(counts.values()):
        found = ", ".join(f"{name!r} in {count}" for name, count in counts.items() if count)
        raise ValueError(
            f"Features are NaN or infinite: {found} of {sum(map(len, parts))} mismatches; a model in float16 may "
            "have overflowed, so collect them in bfloat16 or float32."
        )


def free_memory(device: str | torch.device) -> int:
    """Free memory of the device in bytes; where the system does not report it, a number larger than any memory."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**62
