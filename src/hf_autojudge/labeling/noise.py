"""Sampling that depends on a seed and a position only: the same draws in every batch, on every device, after every
restart."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Noise:
    """Draws one token at each position of a text, by the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014).

    Since the noise of a position is fixed, a text continues in one way only: guesses of its next tokens are verified
    as in greedy decoding.

    Attributes:
        seed (`int`)
        temperature (`float`): Above 0.
    """

    seed: int
    temperature: float

    def choose(self, logits: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Tokens drawn from `softmax(logits / temperature)`.

        Args:
            logits (`torch.Tensor` of shape `(n, V)`)
            positions (`torch.LongTensor` of shape `(n,)`): Of the tokens whose logits these are, in the text.

        Returns:
            `torch.LongTensor` of shape `(n,)`.
        """
        tokens = torch.arange(logits.shape[-1], device=logits.device)
        bits = _mixed(_mixed(positions[:, None] ^ self.seed & _MASK) + tokens & _MASK)
        bits = _mixed(bits ^ (self.seed >> 32 & _MASK))
        uniform = (bits.double() + 0.5) / 2**32
        return (logits.double() / self.temperature - (-uniform.log()).log()).argmax(-1)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """A bijection of 32-bit numbers in which every bit depends on every other (the finaliser of MurmurHash3)."""
    bits = (bits ^ bits >> 16) * 0x85EBCA6B & _MASK
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 & _MASK
    return bits ^ bits >> 16
