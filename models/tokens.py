"""Texts to padded token numbers with the teacher's WordPiece tokenizer (package `tokenizers` alone)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PADDING = -1
_CHARACTERS_PER_TOKEN = 32  # a text is cut before tokenizing, so that 10 MB of text cost no more than a line


class TextTokenizer:
    """Wraps a `tokenizers.Tokenizer`; thread-safe (it holds no state between calls)."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._unknown = self._tokenizer.token_to_id("[UNK]")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """int64, shape (len(texts), longest), padded with -1. A text without any token becomes one [UNK]."""
        cut = [text[: self._max_tokens * _CHARACTERS_PER_TOKEN] for text in texts]
        encoded = self._tokenizer.encode_batch(cut, add_special_tokens=False)
        numbers = [encoding.ids[: self._max_tokens] or [self._unknown] for encoding in encoded]
        length = max((len(row) for row in numbers), default=1)
        return torch.tensor([row + [PADDING] * (length - len(row)) for row in numbers]).reshape(len(numbers), length)
