"""The protocol of a judge: anything that decides which mismatches may stay."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from hf_autojudge.judges.window import Read, Window


@runtime_checkable
class Judge(Protocol):
    """Decides which mismatches are harmless. A judge is a value: it knows no model and keeps no state between rounds.

    Attributes:
        reads (`frozenset[str]`): What the judge reads from the [`Window`]; nothing else is computed for it.
        threshold (`float`, *optional*): A mismatch is accepted if its importance is below the threshold: 0 accepts
            none, 1 accepts all. `None` for rules without one.
        window (`int`, *optional*): Number of candidate tokens a round that the judge was made for.
    """

    @property
    def reads(self) -> frozenset[Read]: ...

    @property
    def threshold(self) -> float | None: ...

    @property
    def window(self) -> int | None: ...

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        """Say which candidate tokens may stay even though the target would have chosen another.

        Args:
            window ([`Window`]): One round.
            threshold (`float`, *optional*): Overrides the judge's own.

        Returns:
            `torch.BoolTensor` of shape `(B, K)`. Entries where draft and target agree are ignored.
        """
        ...

    def check_models(self, target_hidden_size: int, draft_hidden_size: int | None, vocab_size: int) -> None:
        """Raise `ValueError` if the judge was made for models of other sizes. `draft_hidden_size` is `None` for
        sources without a draft model's states."""
        ...


def check_threshold(threshold: float) -> float:
    """Return `threshold` as a float.

    Raises:
        ValueError: If it is not a number in [0, 1].
    """
    value = float(threshold)
    if not 0.0 <= value <= 1.0:  # also catches NaN
        raise ValueError(
            f"The judge's threshold must lie in [0, 1] (0 accepts no mismatch, 1 accepts all); got {value}."
        )
    return value
