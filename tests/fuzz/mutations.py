"""Changes that make a real file broken or hostile."""

import re
from collections.abc import Callable
from random import Random

DEPTH = 20_000
"""How often a bracket is nested."""

TOKENS = (
    *(b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r", b'"', b"'", b",", b";", b"\t", b"<", b">", b"&", b"\\"),
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"1e-320", b"0x10", b"1_0", b"null", b"true", b"[]", b"{}", b'""', b"~"),
    *(b"2147483648", b"-2147483649", b"18446744073709551616", b"9" * 5000, b"1e5", b"4294967296", b"1000000000"),
    *(
        b"../" * 40 + b"etc/passwd",
        b"/dev/zero",
        b"/",
        b"~nobody-knows/x",
        b"C:\\x",
        b"http://[",
        b"file:///etc/passwd",
    ),
    *(b"\x1b[2J", b"\xe2\x80\xae", b"\xed\xa0\x80", b"=cmd()", b"x" * 3000, b"\xf0\x9f\x92\xa5" * 500),
    *(b"[" * DEPTH, b'{"a":' * DEPTH, b"<a>" * DEPTH, b"- " * DEPTH, b"(" * DEPTH),
    *(b"&a [*a, *a]", b"*b", b"!!python/object/apply:os.mkdir [x]", b"<<: *a", b"? !!binary"),
    *(b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>', b"&b;", b"<![CDATA[", b"<!--"),
)
"""Texts that programs misread."""

_ALIASES = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 12)
)
"""YAML of a few hundred bytes that says 9^12 words."""

_WHOLE = (
    b"",
    b"\0" * 1000,
    b" " * 1000,
    b"[" * DEPTH,
    b'{"a":' * DEPTH,
    b"<a>" * DEPTH,
    _ALIASES,
    b"PK\x03\x04",
    b"\x80\x02.",
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_WORD = re.compile(rb"[A-Za-z_][\w.-]*")


def mutate(content: bytes, random: Random) -> bytes:
    """One to four changes of a file's bytes."""
    for _ in range(random.randint(1, 4)):
        content = random.choice(_CHANGES)(content, random)
    return content[: 1 << 22]


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randint(1, 8) if content else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, random: Random) -> bytes:
    start = random.randint(0, len(content))
    new = random.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * random.choice((1, 2, 4, 8, 16))
    return content[:start] + new + content[start + len(new) :]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randint(0, len(content))]


def _insert(content: bytes, random: Random) -> bytes:
    place = random.randint(0, len(content))
    return content[:place] + random.choice(TOKENS) + content[place:]


def _slice(content: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, random.randint(start, min(len(content), start + random.choice((1, 10, 100, 10_000))))


def _delete(content: bytes, random: Random) -> bytes:
    start, end = _slice(content, random)
    return content[:start] + content[end:]


def _repeat(content: bytes, random: Random) -> bytes:
    start, end = _slice(content, random)
    return content[:start] + content[start:end] * random.choice((2, 10, 1000)) + content[end:]


def _move(content: bytes, random: Random) -> bytes:
    start, end = _slice(content, random)
    place = random.randint(0, len(content))
    return content[:place] + content[start:end] + content[place:]


def _replace_match(pattern: re.Pattern[bytes], content: bytes, random: Random) -> bytes:
    """Replace a number or a word, or all that are the same."""
    matches = list(pattern.finditer(content[:100_000]))
    if not matches:
        return content
    match, token = random.choice(matches), random.choice(TOKENS)
    if random.random() < 0.2:
        return content.replace(match[0], token, 1000)
    return content[: match.start()] + token + content[match.end() :]


def _replace_number(content: bytes, random: Random) -> bytes:
    return _replace_match(_NUMBER, content, random)


def _replace_word(content: bytes, random: Random) -> bytes:
    return _replace_match(_WORD, content, random)


def _encode(content: bytes, random: Random) -> bytes:
    return content.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-16-be", "utf-32", "utf-7")))


def _whole(content: bytes, random: Random) -> bytes:
    return random.choice(_WHOLE)


_CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_flip, _overwrite, _truncate, _insert, _delete, _repeat, _move),
    *(_replace_number, _replace_number, _replace_number, _replace_word, _replace_word, _encode, _whole),
)
