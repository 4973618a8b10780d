"""Which tokens LLaVA-NeXT's templates supervise wherever they stand: in questions, too."""

from __future__ import annotations

from typing import Any

_QWEN_LINE_BREAK = 198  # upstream writes the number
_LLAMA_3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "\n\n")


def markup_of(tokenizer: Any) -> frozenset[int]:
    """The ids that ``preprocess_qwen`` and ``preprocess_llama3`` (train.py, ``unmask_tokens_idx``) put into the labels
    of every turn; empty for the other templates. Goes by upstream's ``default_conversation``, which its training sets.
    """
    from llava import conversation

    template = conversation.default_conversation
    if template.version == "qwen":
        return frozenset({_QWEN_LINE_BREAK, *tokenizer.additional_special_tokens_ids})
    if template.version == "llama_v3":
        return frozenset(tokenizer.convert_tokens_to_ids(list(_LLAMA_3)))
    return frozenset()
