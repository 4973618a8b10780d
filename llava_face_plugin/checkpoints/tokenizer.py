"""Tokenizer files with transformers' placeholder tokens, and without them again.

The files are edited, not loaded and saved: what 5.x saves, 4.x cannot read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FaceConfigError
from ..model_files import read_config, write_config

FILES = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt",
)  # fmt: skip
ADDED = ("<image>", "<video>", "<pad>")
"""Tokens that a checkpoint of transformers' classes has, and one of LLaVA's has not."""


def read_tokenizer(directory: Path) -> Any:
    """Raises ``FaceConfigError`` where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(directory))
    except (OSError, ValueError, ImportError) as error:
        raise FaceConfigError(f"{directory}: its tokenizer cannot be read: {error}") from None


def new_tokens(tokenizer: Any, wanted: Sequence[str]) -> dict[str, int]:
    """Ids for those of ``wanted`` that the tokenizer lacks: the next free ones. ``<pad>`` only if it has no padding."""
    known = tokenizer.get_vocab()
    missing = [t for t in wanted if t not in known and not (t == "<pad>" and tokenizer.pad_token is not None)]
    first = max(known.values()) + 1
    return {token: first + n for n, token in enumerate(missing)}


def write_with(source: Path, target: Path, added: Mapping[str, int], chat_template: str) -> None:
    """The source's tokenizer with ``added``, padding on the left as ``generate()`` needs it."""
    _copy(source, target)
    config = read_config(target, "tokenizer_config.json") if (target / "tokenizer_config.json").exists() else {}
    if (target / "added_tokens.json").exists() or "added_tokens_decoder" not in config:
        earlier = read_config(target, "added_tokens.json") if (target / "added_tokens.json").exists() else {}
        write_config(target, {**earlier, **added}, "added_tokens.json")
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] |= {str(i): _entry(token) for token, i in added.items()}
    # A tokenizer without a class of its own would also give token types, which no Llava takes.
    config |= {"padding_side": "left", "model_input_names": ["input_ids", "attention_mask"]}
    if "<pad>" in added:
        config["pad_token"] = "<pad>"
        _set_special(target, "pad_token", "<pad>")
    write_config(target, config, "tokenizer_config.json")
    if (target / "tokenizer.json").exists() and added:
        whole = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
        whole["added_tokens"] += [{"id": i, **_entry(token)} for token, i in added.items()]
        _write_json(target / "tokenizer.json", whole)
    (target / "chat_template.jinja").write_text(chat_template, encoding="utf-8")


def write_without(source: Path, target: Path) -> None:
    """The source's tokenizer without those of ``ADDED`` that are its last ids, padding on the right as LLaVA trains."""
    _copy(source, target)
    gone = removable(read_tokenizer(source).get_vocab())
    config = read_config(target, "tokenizer_config.json") if (target / "tokenizer_config.json").exists() else {}
    decoder = config.get("added_tokens_decoder")
    if decoder is not None:
        config["added_tokens_decoder"] = {i: entry for i, entry in decoder.items() if int(i) not in gone.values()}
    config = {
        k: v for k, v in config.items() if k not in ("processor_class", "image_token", "video_token", "chat_template")
    }
    if config.get("pad_token") in gone:
        config["pad_token"] = None
        _set_special(target, "pad_token", None)
    for key in ("extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"):
        if isinstance(config.get(key), dict):
            config[key] = {k: v for k, v in config[key].items() if v not in gone}
        elif isinstance(config.get(key), list):
            config[key] = [token for token in config[key] if token not in gone]
    write_config(target, config | {"padding_side": "right"}, "tokenizer_config.json")
    if (target / "added_tokens.json").exists():
        added = {t: i for t, i in read_config(target, "added_tokens.json").items() if t not in gone}
        if added:
            write_config(target, added, "added_tokens.json")
        else:
            (target / "added_tokens.json").unlink()
    if (target / "tokenizer.json").exists() and gone:
        whole = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
        whole["added_tokens"] = [entry for entry in whole["added_tokens"] if entry["id"] not in gone.values()]
        _write_json(target / "tokenizer.json", whole)


def removable(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """The run of ``ADDED`` at the end of the vocabulary."""
    gone: dict[str, int] = {}
    for token, i in sorted(vocabulary.items(), key=lambda item: -item[1]):
        if token not in ADDED:
            break
        gone[token] = i
    return gone


def _copy(source: Path, target: Path) -> None:
    for name in FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _entry(token: str) -> dict[str, Any]:
    return {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": True}  # fmt: skip


def _set_special(target: Path, key: str, token: str | None) -> None:
    path = target / "special_tokens_map.json"
    special = read_config(target, path.name) if path.exists() else {}
    special.pop(key, None)
    write_config(target, special | ({key: token} if token else {}), path.name)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
