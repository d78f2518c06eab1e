"""The texts of a batch while they are written: rows that grow by different numbers of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def on_device(numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """Whole numbers of the host as a 1-D tensor, without waiting for what the device has to do."""
    tensor = torch.tensor(numbers, dtype=torch.long)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Text:
    """The prompts of a call and what follows them, for the rows that have not ended yet.

    Args:
        ids (`torch.LongTensor` of shape `(B, prompt length)`): The prompts, padded on the left.
        pads (`Sequence[int]`, *optional*): Padding tokens in front of each prompt; default: none.

    Attributes:
        ids (`torch.LongTensor` of shape `(A, width)`): The A rows that go on. Row i is text up to `ends[i]`, and
            anything behind.
        ends (`list[int]`): Where each row ends, its padding counted.
        pads (`list[int]`): Padding tokens in front of each row.
        rows (`list[int]`): Which row of the batch each is.
    """

    def __init__(self, ids: torch.Tensor, pads: Sequence[int] | None = None) -> None:
        batch, length = ids.shape
        self.ids = ids
        self.ends = [length] * batch
        self.pads = [0] * batch if pads is None else list(pads)
        self.rows = list(range(batch))
        self.prompt_length = length
        self._ends_on_device = on_device(self.ends, ids.device)[:, None]  # up to date while there are several rows
        self._finished: dict[int, torch.Tensor] = {}

    def prefix(self, row: int, length: int) -> torch.Tensor:
        """The first `length` tokens of a row: shape `(1, length)`."""
        return self.ids[row : row + 1, :length]

    def tail(self, width: int) -> torch.Tensor:
        """The last `width` tokens of each row: shape `(A, width)`."""
        if len(self.ends) == 1:
            return self.ids[:, self.ends[0] - width : self.ends[0]]
        return self.ids.gather(1, self._ends_on_device - width + torch.arange(width, device=self.ids.device))

    def extend(self, tokens: torch.Tensor, added: Sequence[int]) -> None:
        """Append the first `added[i]` of `tokens[i]` to row i.

        Args:
            tokens (`torch.LongTensor` of shape `(A, n)`)
            added (`Sequence[int]`): At most n each.
        """
        ends = [end + n for end, n in zip(self.ends, added, strict=True)]
        if len(self.ends) == 1:
            self.ids = torch.cat([self.ids[:, : self.ends[0]], tokens[:, : added[0]]], dim=-1)
        else:
            n = tokens.shape[1]
            missing = max(self.ends) + n - self.ids.shape[1]
            if missing > 0:
                self.ids = torch.nn.functional.pad(self.ids, (0, max(missing, self.ids.shape[1])))
            places = self._ends_on_device + torch.arange(n, device=tokens.device)
            self.ids = self.ids.scatter(1, places, tokens)
            self._ends_on_device = on_device(ends, self.ids.device)[:, None]
        self.ends = ends

    def finish(self, row: int, length: int) -> None:
        """Row `row` has ended and is `length` tokens long. To be followed by [`select`] without it."""
        self.ends[row] = length
        self._finished[self.rows[row]] = self.ids[row, :length]

    def select(self, kept: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = on_device(kept, self.ids.device)
        self.ids, self._ends_on_device = self.ids[index], self._ends_on_device[index]
        self.ends, self.pads, self.rows = ([old[i] for i in kept] for old in (self.ends, self.pads, self.rows))

    def sequences(self, pad_token_id: int) -> torch.Tensor:
        """All finished rows in the order of the batch, filled up on the right: shape `(B, longest)`."""
        ordered = [self._finished[row] for row in sorted(self._finished)]
        if len(ordered) == 1:
            return ordered[0][None]
        return torch.nn.utils.rnn.pad_sequence(ordered, batch_first=True, padding_value=pad_token_id)
