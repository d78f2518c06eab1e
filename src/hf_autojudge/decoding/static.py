"""Static caches and compiled passes: nothing of a round but its last look waits for the host.

A model gets one compiled graph for each width of a pass it needs (the draft's step: 1 token, or 2 at the start of a
round; the verification: K + 1); a narrower pass is filled up, its surplus slots are overwritten before anybody sees
them. Prefill runs as it is. What compiles again: another batch size, another number of candidates, a longer
`max_length` than before (beyond the next multiple of 256), another dtype, device, autocast state or attention
implementation, another thread. Growing texts do not.

Caches and graphs stay with the model from call to call, for the last four such kinds of call; [`free_static_caches`]
drops them.
"""

from __future__ import annotations

import copy
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import GenerationConfig, PreTrainedModel

from hf_autojudge.decoding.passes import output_head, unwrap_peft
from hf_autojudge.decoding.slots import SlotPass
from hf_autojudge.decoding.text import on_device

_ROUND_TO = 256  # slots
_KINDS = 4  # of calls whose caches are kept for a model
_kept: WeakKeyDictionary[PreTrainedModel, dict[Any, StaticSlots]] = WeakKeyDictionary()


def free_static_caches(model: PreTrainedModel) -> None:
    """Free the caches and graphs that `generate(judge=..., cache_implementation="static")` keeps for `model`."""
    _kept.pop(unwrap_peft(model), None)


@contextmanager
def static_slots(
    model: PreTrainedModel, batch: int, max_length: int, widths: Sequence[int], compile_options: dict[str, Any] | None
) -> Iterator[StaticSlots]:
    """The model's static cache and graphs, from an earlier call if they fit. While the context is open they belong to
    this call alone: another thread makes its own.

    Args:
        batch (`int`): Rows.
        max_length (`int`): Longest text.
        widths (`Sequence[int]`): Tokens of the passes after the prefill.
        compile_options (`dict`, *optional*): Arguments of `torch.compile`; `None` leaves the passes uncompiled.

    Raises:
        ValueError: If the model is spread over several devices, or of a kind that [`SlotPass`] refuses.
    """
    if "forward" in vars(model):
        raise ValueError(
            f"The forward method of this {type(model).__name__} was replaced (accelerate does so to spread a model "
            'over several devices), which static caches do not support; leave cache_implementation="static" away.'
        )
    needed = max_length + max(widths) + 1
    kind = (
        batch,
        tuple(widths),
        model.dtype,
        str(model.device),
        model.config._attn_implementation,
        id(output_head(model)),
        torch.is_autocast_enabled(model.device.type) and torch.get_autocast_dtype(model.device.type),
        repr(compile_options),
        None if compile_options is None else threading.get_ident(),
    )
    slots = _kept.setdefault(model, {}).pop(kind, None)
    if slots is not None and slots.capacity < needed:
        slots = None  # before the larger one takes its memory
    if slots is None:
        slots = StaticSlots(model, batch, -(-needed // _ROUND_TO) * _ROUND_TO, widths, compile_options)
    slots.begin(model, max_length)
    yield slots  # after an error they are dropped
    slots.end()
    kept = _kept.setdefault(model, {})
    kept[kind] = slots
    for oldest in list(kept)[:-_KINDS]:
        del kept[oldest]


class StaticSlots:
    """Passes of fixed shapes over a cache of fixed size: see [`Runner`]. Rows that ended stay, idle."""

    def __init__(
        self,
        model: PreTrainedModel,
        batch: int,
        capacity: int,
        widths: Sequence[int],
        compile_options: dict[str, Any] | None,
    ) -> None:
        self.batch = batch
        self.capacity = capacity
        self._pass = SlotPass(model, capacity)
        # A copy that shares the weights, so that its output head can tell what it reads, inside a graph too
        self._twin = _with_listening_head(model)
        self._compiled = compile_options is not None
        # A graph reads its inputs where they were when it was captured
        with torch.inference_mode(False):
            self._starts = torch.zeros(batch, 1, dtype=torch.long, device=model.device)
            self._tokens = {width: self._starts.new_zeros(batch, width) for width in sorted(widths)}
        for tensor in (self._starts, *self._tokens.values()):
            torch._dynamo.mark_static_address(tensor)
        self._steps = {
            width: _step(self._pass, self._twin, tokens, self._starts, compile_options)
            for width, tokens in self._tokens.items()
        }

    def begin(self, model: PreTrainedModel, max_length: int) -> None:
        """Start a call: `model` is the one these were made for."""
        self._pass.limit(max_length)
        self.model = model
        self._rows = torch.arange(self.batch, device=model.device)  # which go on
        self._fresh = True

    def end(self) -> None:
        """End a call. The model is let go: it must not keep itself alive through what it keeps."""
        del self.model

    def run(
        self, tokens: torch.Tensor, starts: torch.Tensor, rows: int, longest: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See [`Runner.run`]."""
        n = tokens.shape[1]
        self._starts[self._rows] = starts
        width = next((width for width in self._steps if width >= n), None)
        if width is None or self._fresh:  # the first pass allocates the cache, which a graph cannot
            self._fresh = False
            everyone = tokens.new_zeros(self.batch, n)
            everyone[self._rows] = tokens
            logits, hidden = _run(self._pass, self._twin, everyone, self._starts, rows)
            logits, hidden = logits[:, -rows:], hidden[:, -rows:]
        else:
            self._tokens[width][self._rows, :n] = tokens
            if self._compiled:
                torch.compiler.cudagraph_mark_step_begin()
            logits, hidden = self._steps[width]()
            logits, hidden = logits[:, n - rows : n], hidden[:, n - rows : n]
        # copies: the next replay writes over what this one returned
        return logits[self._rows].float(), hidden[self._rows]

    def select(self, kept: Sequence[int]) -> None:
        """See [`Passes.select`]."""
        self._rows = self._rows[on_device(kept, self._rows.device)]

    def record_hidden(self) -> AbstractContextManager[None]:
        """See [`Passes.record_hidden`]: the head always tells."""
        return nullcontext()


def _run(
    slot_pass: SlotPass, twin: PreTrainedModel, tokens: torch.Tensor, starts: torch.Tensor, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = slot_pass(twin, tokens, starts, rows)
    head = twin.get_output_embeddings()
    hidden, head.seen = head.seen, None
    return logits, hidden


def _step(
    slot_pass: SlotPass,
    twin: PreTrainedModel,
    tokens: torch.Tensor,
    starts: torch.Tensor,
    compile_options: dict[str, Any] | None,
) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """A pass over inputs that stay where they are."""

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        return _run(slot_pass, twin, tokens, starts, tokens.shape[1])

    if compile_options is None:
        return step
    # torch counts recompilations by code object: each step gets one of its own
    own = types.FunctionType(step.__code__.replace(), step.__globals__, closure=step.__closure__)
    return torch.compile(own, **compile_options)


class _ListeningHead(torch.nn.Module):
    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head
        self.seen: torch.Tensor | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.seen = hidden
        return self.head(hidden)


def _with_listening_head(model: PreTrainedModel) -> PreTrainedModel:
    head = output_head(model)
    name = next((name for name, module in model._modules.items() if module is head), None)
    if name is None:
        raise ValueError(
            f"The output head of {type(model).__name__} is not its own child module, so a static cache cannot be "
            'used; leave cache_implementation="static" away.'
        )
    twin = copy.copy(model)
    twin._modules = model._modules | {name: _ListeningHead(head)}
    return twin


def compile_options(model: PreTrainedModel, config: GenerationConfig) -> dict[str, Any] | None:
    """Arguments for `torch.compile`, or `None` to leave it. As in transformers' `_valid_auto_compile_criteria`:
    accelerators compile unless `disable_compile` is set; a CPU compiles only if `compile_config` is given."""
    if config.disable_compile:
        return None
    if config.compile_config is not None:
        return {"dynamic": False} | {k: v for k, v in config.compile_config.to_dict().items() if v is not None}
    if model.device.type in ("cuda", "xpu"):
        return {"dynamic": False, "mode": "reduce-overhead"}
    return None
