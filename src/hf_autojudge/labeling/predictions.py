"""Questions to the two models about texts, answered for many texts in one pass."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from transformers import PreTrainedModel

from hf_autojudge.decoding.passes import CachedModel, rewindable_cache
from hf_autojudge.decoding.slots import SlotPass
from hf_autojudge.labeling.noise import Noise
from hf_autojudge.runners.base import to_device as on_device
from hf_autojudge.runners.base import vocab_size

logger = logging.getLogger(__name__)

PASS_TOKENS = 16384  # most tokens of a pass: bounds the memory of prefills
PASS_LOGITS = 4096  # most tokens whose logits a pass keeps
PASS_PRICE = {"cpu": 32}  # what a pass costs beyond its tokens, in tokens
PASS_PRICE_ELSEWHERE = 512  # on accelerators


@dataclass(frozen=True)
class Ask:
    """What would `model` write after each of the last `rows` tokens of `text`?

    Attributes:
        model (`str`): `"target"` or `"draft"`.
        text (`list[int]`): Token ids, prompt included.
        rows (`int`): At least 1.
        noise ([`Noise`], *optional*): Draw the choices by this noise; without it they are the argmax.
        scores (`bool`, *optional*, defaults to `False`): Give log-probabilities of the text's own tokens too.
    """

    model: Literal["target", "draft"]
    text: list[int]
    rows: int
    noise: Noise | None = None
    scores: bool = False


@dataclass(frozen=True)
class Reply:
    """The answer to an [`Ask`].

    Attributes:
        choices (`list[int]`): `rows` tokens.
        scores (`list[float]`): If asked for: log-probabilities, in nats, of the text's last `rows - 1` tokens, each
            given those before it.
    """

    choices: list[int]
    scores: list[float]


class Reader(Protocol):
    """Answers questions to one model.

    Attributes:
        texts (`int`): How many texts it can follow at the same time.
    """

    texts: int

    def read(self, asks: dict[int, Ask]) -> dict[int, Reply]:
        """Answer one question for each of the named places, 0 to `texts - 1`. What a place's text shares with the one
        before it is not computed again."""
        ...


def make_reader(model: PreTrainedModel, texts: int, max_length: int, vocabulary: int) -> Reader:
    """The widest reader that a model allows.

    Args:
        model ([`PreTrainedModel`]): Decoder-only.
        texts (`int`): Texts at the same time.
        max_length (`int`): The longest text, in tokens.
        vocabulary (`int`): Tokens both models have; no other is ever chosen.

    Returns:
        A [`ManyTexts`], or a [`OneText`] for a model that cannot run rows at different positions in one pass (a
        warning says why).
    """
    if texts > 1:
        try:
            return ManyTexts(model, texts, max_length, vocabulary)
        except ValueError as error:
            logger.warning("Texts of %s are read one at a time: %s", type(model).__name__, error)
    return OneText(model, vocabulary)


class OneText:
    """A [`Reader`] of one text, with the model's usual cache."""

    texts = 1

    def __init__(self, model: PreTrainedModel, vocabulary: int) -> None:
        self._model = CachedModel(model, rewindable_cache(model))
        self._vocabulary = vocabulary
        self._size = vocab_size(model)
        self._text: list[int] = []  # what the cache holds

    def read(self, asks: dict[int, Ask]) -> dict[int, Reply]:
        """See [`Reader.read`]."""
        ((place, ask),) = asks.items()
        shared = _shared(self._text, ask)
        self._model.rollback(self._model.length - shared)
        new = torch.tensor([ask.text[shared:]], device=self._model.model.device).clamp(max=self._size - 1)
        logits, _ = self._model.forward(new, ask.rows)
        self._text = ask.text
        return {place: _replies(logits, [ask], self._vocabulary)[0]}


class ManyTexts:
    """A [`Reader`] of several texts: rows of one cache, each at its own position.

    Rows of a pass are as wide as the widest needs; a row that needs less runs some of its last tokens again, which
    changes nothing.

    Raises:
        ValueError: If the model cannot run rows at different positions, or texts as long as that.
    """

    def __init__(self, model: PreTrainedModel, texts: int, max_length: int, vocabulary: int) -> None:
        self.texts = texts
        self._model = model
        self._pass = SlotPass(model, height=texts)
        self._pass.limit(max_length)
        self._vocabulary = vocabulary
        self._size = vocab_size(model)
        self._price = PASS_PRICE.get(model.device.type, PASS_PRICE_ELSEWHERE)
        self._texts: list[list[int]] = [[] for _ in range(texts)]  # what each row of the cache holds

    def read(self, asks: dict[int, Ask]) -> dict[int, Reply]:
        """See [`Reader.read`]."""
        new = {place: len(ask.text) - _shared(self._texts[place], ask) for place, ask in asks.items()}
        replies: dict[int, Reply] = {}
        fits = PASS_LOGITS // max(ask.rows for ask in asks.values())
        for places in _alike(new, self._price, fits):
            width = max(new[place] for place in places)
            found = self._run([asks[place] for place in places], places, width)
            replies.update(zip(places, found, strict=True))
        return replies

    def _run(self, asks: list[Ask], places: list[int], width: int) -> list[Reply]:
        device = self._model.device
        tokens = [ask.text[-width:] for ask in asks]
        padded = torch.tensor([[0] * (width - len(row)) + row for row in tokens]).clamp(max=self._size - 1)
        table = self._pass.table
        table.rows = None if places == list(range(self.texts)) else on_device(places, device)
        table.make_room(max(len(ask.text) for ask in asks))
        starts = on_device([len(ask.text) - width for ask in asks], device)[:, None]
        logits = self._pass(self._model, padded.to(device), starts, max(ask.rows for ask in asks))
        for place, ask in zip(places, asks, strict=True):
            self._texts[place] = ask.text
        return _replies(logits, asks, self._vocabulary)


def _shared(held: list[int], ask: Ask) -> int:
    """How many tokens of a text need not be run again."""
    limit = min(len(held), len(ask.text) - ask.rows)
    if held[:limit] == ask.text[:limit]:
        return limit
    return next(i for i in range(limit) if held[i] != ask.text[i])


def _alike(new: dict[int, int], price: int, most: int) -> list[list[int]]:
    """Places whose rows go through one pass, at most `most`: a pass more costs `price` tokens, a row costs as many as
    the widest one."""
    if not new:
        return []
    order = sorted(new, key=lambda place: -new[place])
    widest = new[order[0]]
    gain, cut = max(((widest - new[place]) * (len(order) - i), i) for i, place in enumerate(order))
    count = max(1, min(cut if gain > price else len(order), most, PASS_TOKENS // widest))
    return [sorted(order[:count]), *_alike({place: new[place] for place in order[count:]}, price, most)]


def _replies(logits: torch.Tensor, asks: Sequence[Ask], vocabulary: int) -> list[Reply]:
    """From logits of the last rows of every text, shape `(texts, rows, V)`."""
    logits = logits[..., :vocabulary]
    rows = logits.shape[1]
    choices = logits.argmax(-1)
    for index, ask in enumerate(asks):
        if ask.noise is not None:
            positions = torch.arange(len(ask.text) - ask.rows, len(ask.text), device=logits.device)
            choices[index, rows - ask.rows :] = ask.noise.choose(logits[index, rows - ask.rows :], positions)
    scores: list[list[float]] = [[] for _ in asks]
    for index, ask in enumerate(asks):
        if ask.scores:
            following = torch.tensor(ask.text[len(ask.text) - ask.rows + 1 :], device=logits.device)
            distribution = logits[index, rows - ask.rows : rows - 1].float().log_softmax(-1)
            scores[index] = distribution.gather(-1, following[:, None])[:, 0].tolist()
    host = choices.tolist()
    return [Reply(host[i][rows - ask.rows :], scores[i]) for i, ask in enumerate(asks)]
