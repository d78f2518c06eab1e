"""The records that every labelling method produces: one for each prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mismatch:
    """A position at which the draft's token differs from the target's own choice.

    Attributes:
        position (`int`): Position in the response, from 0.
        target_token (`int`): The target's token.
        draft_token (`int`): The draft's token.
        important (`bool`): Whether the draft's token changes the outcome.
        importance (`float`, *optional*): Soft label in [0, 1]. Defaults to 1 if the mismatch is important and to 0
            otherwise.
        helpful (`bool`): Whether the draft's token turns a wrong answer right; such a mismatch is unimportant. Only
            [`AutoJudge`] with `outcome="correct"` finds out. Defaults to `False`.
    """

    position: int
    target_token: int
    draft_token: int
    important: bool
    importance: float = -1.0
    helpful: bool = False

    def __post_init__(self) -> None:
        if self.importance == -1.0:
            object.__setattr__(self, "importance", float(self.important))


@dataclass(frozen=True)
class LabelledPrompt:
    """The labels of one prompt.

    Attributes:
        prompt (`list[int]`): Token ids of the prompt.
        mismatches (`list[Mismatch]`): In order of position.
        reference (`list[int]`): Token ids of the target's greedy answer, including an end token.
        response (`list[int]`): Token ids of the answer that `position` refers to and features are computed on. The
            AutoJudge search leaves the last accepted answer here: the draft's token at every unimportant mismatch, the
            target's elsewhere.
    """

    prompt: list[int]
    mismatches: list[Mismatch]
    reference: list[int]
    response: list[int]

    @property
    def share_searched(self) -> float:
        """The part of the response up to the last mismatch, in [0, 1]: how far an unfinished search is."""
        return (self.mismatches[-1].position + 1) / len(self.response) if self.mismatches else 0.0
