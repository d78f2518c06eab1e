"""Sampling noise that depends only on a seed and a position, so draws are the same in every batch, on every device and
after every restart."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Noise:
    """Draws one token at each position of a sequence with the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014).

    The noise of a position is fixed, so a sequence has exactly one continuation, and guesses of its next tokens can be
    verified as in greedy decoding. The temperature is above 0.
    """

    seed: int
    temperature: float

    def choose(self, logits: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Draw tokens from `softmax(logits / temperature)`, logits of shape `(n, vocab_size)`, for the given positions
        in the sequence. Positions and tokens are int64 of shape `(n,)`."""
        tokens = torch.arange(logits.shape[-1], device=logits.device)
        bits = _mix(_mix(positions[:, None] ^ self.seed & _MASK) + tokens & _MASK)
        bits = _mix(bits ^ (self.seed >> 32 & _MASK))
        uniform = (bits.double() + 0.5) / 2**32
        return (logits.double() / self.temperature - (-uniform.log()).log()).argmax(-1)


def _mix(bits: torch.Tensor) -> torch.Tensor:
    """A bijection of 32-bit numbers in which every output bit depends on every input bit (MurmurHash3's finalizer)."""
    bits = (bits ^ bits >> 16) * 0x85EBCA6B & _MASK
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 & _MASK
    return bits ^ bits >> 16
