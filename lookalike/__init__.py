"""Lookalike: product search by picture, by words and by both. The domain package; it imports no engine."""

__version__ = "0.1.0"
