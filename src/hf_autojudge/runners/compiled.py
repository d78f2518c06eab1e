"""Static shapes, compiled where asked for: one host-device synchronization per round is left.

A model gets one compiled graph for each width of a pass it needs (the draft's step: 1 token, or 2 at the start of a
round; the verification: K + 1). A narrower pass is padded to the next width; its surplus slots are overwritten before
any query attends to them. Prefill is not compiled. What compiles again: another batch size, another number of
candidate tokens, a larger `max_length` than before (beyond the next multiple of 256), another dtype, device, autocast
state or attention implementation, another thread. Growing sequences do not.

Caches and graphs of its last four kinds of call stay with the model, until [`free_static_caches`].
"""

from __future__ import annotations

import copy
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import GenerationConfig, PreTrainedModel

from hf_autojudge.runners.base import output_head, to_device, unwrap_peft, vocab_size
from hf_autojudge.runners.slot_cache import SlotCache

_ROUND_TO = 256  # slots
_KINDS_KEPT = 4
_kept: WeakKeyDictionary[PreTrainedModel, dict[Any, CompiledRunner]] = WeakKeyDictionary()


def free_static_caches(model: PreTrainedModel) -> None:
    """Free the caches and graphs that `generate(judge=..., cache_implementation="static")` keeps for `model`."""
    _kept.pop(unwrap_peft(model), None)


@contextmanager
def compiled_runner(
    model: PreTrainedModel,
    num_sequences: int,
    max_length: int,
    widths: Sequence[int],
    compile_options: dict[str, Any] | None,
) -> Iterator[CompiledRunner]:
    """The model's static cache and graphs, from an earlier call if they fit. While the context is open they belong to
    this call alone: another thread makes its own. `widths` are the tokens per sequence of passes after the prefill;
    without `compile_options` (of `torch.compile`) nothing is compiled.

    Raises:
        ValueError: If the model is spread over several devices, or of a kind that [`SlotCache`] refuses.
    """
    if "forward" in vars(model):
        raise ValueError(
            f"The forward method of this {type(model).__name__} was replaced (accelerate does so to spread a model "
            'over several devices), which static caches do not support; omit cache_implementation="static".'
        )
    needed = max_length + 1
    kind = (
        num_sequences,
        tuple(widths),
        model.dtype,
        str(model.device),
        model.config._attn_implementation,
        id(output_head(model)),
        torch.is_autocast_enabled(model.device.type) and torch.get_autocast_dtype(model.device.type),
        repr(compile_options),
        None if compile_options is None else threading.get_ident(),
    )
    runner = _kept.setdefault(model, {}).pop(kind, None)
    if runner is not None and runner.capacity < needed:
        runner = None  # before the larger one takes its memory
    if runner is None:
        capacity = -(-needed // _ROUND_TO) * _ROUND_TO
        runner = CompiledRunner(model, num_sequences, capacity, widths, compile_options)
    runner.begin(model, max_length)
    yield runner  # after an error it is dropped
    runner.end()
    kept = _kept.setdefault(model, {})
    kept[kind] = runner
    for oldest in list(kept)[:-_KINDS_KEPT]:
        del kept[oldest]


class CompiledRunner:
    """A [`ModelRunner`] of fixed shapes over a cache of fixed size. Sequences that ended stay in it, idle. It always
    returns hidden states."""

    def __init__(
        self,
        model: PreTrainedModel,
        num_sequences: int,
        capacity: int,
        widths: Sequence[int],
        compile_options: dict[str, Any] | None,
    ) -> None:
        self.capacity = capacity
        self.num_sequences = num_sequences
        self._cache = SlotCache(model, num_sequences, capacity)
        # A copy that shares the weights, whose output head records what it reads, inside a graph too
        self._twin = _with_recording_head(model)
        self._last_token_id = vocab_size(model) - 1
        self._is_compiled = compile_options is not None
        # A graph reads its inputs where they were when it was captured
        with torch.inference_mode(False):
            self._starts = torch.zeros(num_sequences, 1, dtype=torch.long, device=model.device)
            self._tokens = {width: self._starts.new_zeros(num_sequences, width) for width in sorted(widths)}
        for tensor in (self._starts, *self._tokens.values()):
            torch._dynamo.mark_static_address(tensor)
        self._steps = {
            width: _step(self._cache, self._twin, tokens, self._starts, compile_options)
            for width, tokens in self._tokens.items()
        }

    def begin(self, model: PreTrainedModel, max_length: int) -> None:
        """Start a call: `model` is the one this runner was made for."""
        self._cache.set_max_length(max_length)
        self.model = model
        self.num_cached = [0] * self.num_sequences
        self._running = torch.arange(self.num_sequences, device=model.device)
        self._is_prefill = True
        self._last_width = 0

    def end(self) -> None:
        """End a call. The model is released: what it keeps must not keep it alive."""
        del self.model

    def forward(
        self, tokens: torch.Tensor, starts: Sequence[int], logits_to_keep: int, sequences: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See [`ModelRunner.forward`]."""
        n = tokens.shape[1]
        device = self._starts.device
        tokens = tokens.to(device).clamp(max=self._last_token_id)
        continues = not self._is_prefill and list(starts) == self.num_cached
        if continues:
            self._starts[self._running] += self._last_width  # those of idle sequences stay in the cache
        else:
            self._starts[self._running] = to_device(starts, device)[:, None]
        widths = [width for width in self._steps if width >= n]
        # After a rollback the widest: so every graph is compiled early in a call, not when it is first needed
        width = widths[0 if continues else -1] if widths else None
        if width is None or self._is_prefill:  # the first pass allocates the cache, which a graph cannot
            self._is_prefill = False
            padded = tokens.new_zeros(self.num_sequences, n)
            padded[self._running] = tokens
            logits, hidden = _run(self._cache, self._twin, padded, self._starts, logits_to_keep)
            logits, hidden = logits[:, -logits_to_keep:], hidden[:, -logits_to_keep:]
        else:
            self._tokens[width][self._running, :n] = tokens
            if self._is_compiled:
                torch.compiler.cudagraph_mark_step_begin()
            logits, hidden = self._steps[width]()
            logits, hidden = logits[:, n - logits_to_keep : n], hidden[:, n - logits_to_keep : n]
        self._last_width = n
        self.num_cached = [start + n for start in starts]
        # Copies: the next replay overwrites what this one returned
        return logits[self._running], hidden[self._running]

    def select(self, sequences: Sequence[int]) -> None:
        """See [`ModelRunner.select`]."""
        self._running = self._running[to_device(sequences, self._running.device)]
        self.num_cached = [self.num_cached[i] for i in sequences]


def _run(
    cache: SlotCache, twin: PreTrainedModel, tokens: torch.Tensor, starts: torch.Tensor, logits_to_keep: int
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = twin(**cache.prepare(tokens, starts, logits_to_keep), return_dict=True).logits
    cache.mapping.slots = None
    head = twin.get_output_embeddings()
    hidden, head.read = head.read, None
    return logits, hidden


def _step(
    cache: SlotCache,
    twin: PreTrainedModel,
    tokens: torch.Tensor,
    starts: torch.Tensor,
    compile_options: dict[str, Any] | None,
) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """A pass whose inputs stay where they are. Not a method: a runner in its own graphs would never be freed."""

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        return _run(cache, twin, tokens, starts, tokens.shape[1])

    if compile_options is None:
        return step
    # torch counts recompilations per code object: each step gets its own
    own = types.FunctionType(step.__code__.replace(), step.__globals__, closure=step.__closure__)
    return torch.compile(own, **compile_options)


class _RecordingHead(torch.nn.Module):
    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head
        self.read: torch.Tensor | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.read = hidden
        return self.head(hidden)


def _with_recording_head(model: PreTrainedModel) -> PreTrainedModel:
    head = output_head(model)
    name = next((name for name, module in model._modules.items() if module is head), None)
    if name is None:
        raise ValueError(
            f"The output head of {type(model).__name__} is not its direct child module, so a static cache cannot be "
            'used; omit cache_implementation="static".'
        )
    twin = copy.copy(model)
    twin._modules = model._modules | {name: _RecordingHead(head)}
    return twin


def compile_options(model: PreTrainedModel, config: GenerationConfig) -> dict[str, Any] | None:
    """Arguments for `torch.compile`; `None`: do not compile. As in transformers' `_valid_auto_compile_criteria`:
    accelerators compile unless `disable_compile` is set; a CPU compiles only if `compile_config` is given."""
    if config.disable_compile:
        return None
    if config.compile_config is not None:
        return {"dynamic": False} | {k: v for k, v in config.compile_config.to_dict().items() if v is not None}
    if model.device.type in ("cuda", "xpu"):
        return {"dynamic": False, "mode": "reduce-overhead"}
    return None
