"""Counts with singular or plural, for messages: "1 image", "2 images"."""


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """E.g. "1 image", "2 images"; `nouns`: the plural, if it is not `noun` with an s."""
    return f"{count} {noun if count == 1 else nouns or f'{noun}s'}"
