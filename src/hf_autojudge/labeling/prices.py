"""What a model's pass costs, measured in the run itself."""

from __future__ import annotations

from transformers import PreTrainedModel

FORGETTING = 0.98  # weight of a pass, relative to the next one: machines get busy and contexts longer
PASS_OVERHEAD = {"cpu": 32.0}  # before the first pass: what a pass costs beyond its tokens, in tokens
PASS_OVERHEAD_ELSEWHERE = 512.0  # on accelerators
FLOPS = 2e11  # before the first pass: operations a second


class PassPrice:
    """Seconds of a pass as a function of its tokens, `fixed + per_token * tokens`: a least-squares fit to the passes
    so far, of which recent ones count more.

    Args:
        per_token (`float`, *optional*, defaults to `1.0`): Before the first pass.
        overhead (`float`, *optional*, defaults to `32.0`): `fixed / per_token` before the first pass.

    Attributes:
        fixed (`float`): Seconds of a pass beside its tokens.
        per_token (`float`): Seconds of one more token.
        num_sequences (`int`): Sequences in the last pass, which share its fixed seconds.
        seconds (`float`): Sum over all passes.
    """

    def __init__(self, per_token: float = 1.0, overhead: float = PASS_OVERHEAD["cpu"]) -> None:
        self.fixed, self.per_token = overhead * per_token, per_token
        self.num_sequences = 1
        self.seconds = 0.0
        self._sums: list[float] = []  # of weights, tokens, seconds, tokens * tokens, tokens * seconds

    @classmethod
    def guessed(cls, model: PreTrainedModel) -> PassPrice:
        """From a model's size and device."""
        overhead = PASS_OVERHEAD.get(model.device.type, PASS_OVERHEAD_ELSEWHERE)
        return cls(2 * sum(parameter.numel() for parameter in model.parameters()) / FLOPS, overhead)

    @property
    def overhead(self) -> float:
        """What a pass costs beside its tokens, in tokens."""
        return self.fixed / self.per_token

    def record(self, tokens: int, num_sequences: int, seconds: float) -> None:
        """Add a pass over `tokens` tokens of `num_sequences` sequences, which took `seconds`."""
        self.num_sequences = num_sequences
        self.seconds += seconds
        if not self._sums:  # the first guess keeps its shape and takes the first pass's scale
            scale = seconds / (self.fixed + self.per_token * tokens)
            self.fixed, self.per_token = scale * self.fixed, scale * self.per_token
            self._sums = [0.0] * 5
            for n in (1, 256):
                self._add(n, self.fixed + self.per_token * n)
        self._sums = [FORGETTING * total for total in self._sums]
        self._add(tokens, seconds)
        weight, x, y, xx, xy = self._sums
        spread = weight * xx - x * x
        if spread > 1e-6 * weight * xx:  # else passes have been alike, and say nothing about others
            self.per_token = min(max((weight * xy - x * y) / spread, 0.05 * y / x), y / x)
            self.fixed = (y - self.per_token * x) / weight

    def _add(self, tokens: int, seconds: float) -> None:
        new = (1.0, tokens, seconds, tokens * tokens, tokens * seconds)
        self._sums = [total + value for total, value in zip(self._sums, new, strict=True)]
