"""A prompt's text as token ids, for models with and without a chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_ids(tokenizer: PreTrainedTokenizerBase, chat: str, plain: str) -> list[int]:
    """Token ids of `chat` as the user's message, or of `plain` as it is if the tokenizer has no chat template."""
    if tokenizer.chat_template is None:
        return list(tokenizer(plain)["input_ids"])
    messages = [{"role": "user", "content": chat}]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])
