"""The color of a class: the same in all pictures and on the annotation page."""

import colorsys
from functools import cache
from hashlib import sha256

Rgb = tuple[int, int, int]


@cache
def class_color(name: str) -> Rgb:
    """RGB, 0..255, of a class. It depends on the name alone, so it stays the same when classes are added or removed."""
    digest = sha256(name.encode("utf-8", "surrogatepass")).digest()
    hue = int.from_bytes(digest[:4], "big") / 2**32
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.6, 0.75, 0.9)[digest[4] % 3], (0.75, 0.85, 0.95)[digest[5] % 3])
    return round(255 * red), round(255 * green), round(255 * blue)


def css_color(color: Rgb) -> str:
    """A color as CSS writes it, e.g. "#0a1b2c"."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def contrast_color(color: Rgb) -> Rgb:
    """Black or white, for text on this color (Rec. 709 luma)."""
    red, green, blue = color
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 140 else (255, 255, 255)
