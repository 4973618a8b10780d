"""Which tokens LLaVA-NeXT's templates supervise wherever they stand: in questions, too."""

from __future__ import annotations

from typing import Any

_QWEN_LINE_BREAK = 198  # upstream writes the number
_LLAMA_3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "\n\n")


def markup_of(tokenizer: Any) -> frozenset[int]:
    """The ids that ``preprocess_qwen`` and ``preprocess_llama3`` (train.py, ``unmask_tokens_idx``) put into the labels
    of every turn, and the name of the assistant, with which they begin an answer and ``generate`` ends a question.

    Empty for the other templates. Goes by upstream's ``default_conversation``, which its training sets.
    """
    from llava import conversation

    version = conversation.default_conversation.version
    if version == "qwen":
        marks = [_QWEN_LINE_BREAK, *tokenizer.additional_special_tokens_ids]
    elif version == "llama_v3":
        marks = tokenizer.convert_tokens_to_ids(list(_LLAMA_3))
    else:
        return frozenset()
    name = tokenizer("assistant", add_special_tokens=False)["input_ids"]
    # One token in either vocabulary; pieces of it could begin an answer.
    return frozenset([*marks, *(name if len(name) == 1 else [])])
