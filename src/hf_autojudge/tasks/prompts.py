"""Token ids of a prompt, for tokenizers with and without a chat template."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase


def prompt_ids(tokenizer: PreTrainedTokenizerBase, chat: str, plain: str) -> list[int]:
    """Token ids of `chat` as the user's message, or of `plain` if the tokenizer has no chat template."""
    if tokenizer.chat_template is None:
        return list(tokenizer(plain)["input_ids"])
    return chat_ids(tokenizer, [{"role": "user", "content": chat}])


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """Token ids of chat messages, followed by the start of the assistant's turn."""
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])
