"""How a model is run: forward passes over sequences with a KV cache, for decoding, labelling and features alike."""

from hf_autojudge.runners.base import ModelRunner
from hf_autojudge.runners.batched import BatchedRunner
from hf_autojudge.runners.compiled import free_static_caches
from hf_autojudge.runners.dynamic import DynamicRunner
from hf_autojudge.runners.packed import PackedRunner

__all__ = ["BatchedRunner", "DynamicRunner", "ModelRunner", "PackedRunner", "free_static_caches"]
