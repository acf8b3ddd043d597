"""How texts are written: where words end, in scripts with spaces and without, and what makes up one emoji."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts that put no space between words, as Unicode's names of their characters begin."""

_JOINER = "\u200d"
_SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_FLAG_LETTERS = frozenset(map(chr, range(0x1F1E6, 0x1F200)))
_APOSTROPHES = ("'", "\u2019")


def has_words(texts: Sequence[str]) -> bool:
    """Whether most texts have words, and most of their letters are of scripts that set spaces between them.

    >>> [has_words([text]) for text in ("where is it", "😀😀", "我的包裹在哪里呢")]
    [True, False, False]
    """
    letters = [[character for character in text if character.isalnum()] for text in texts]
    spaced = sum(in_spaced_word(character) for row in letters for character in row)
    return 2 * sum(map(bool, letters)) > len(texts) and 2 * spaced > sum(map(len, letters))


def joined(text: str, at: int) -> bool:
    """Whether the characters before and after a place belong to one word, or to one emoji.

    >>> [joined("don't 👍🏽 我的", at) for at in (1, 3, 4, 7, 10)]
    [True, True, True, True, False]
    """
    if not 0 < at < len(text):
        return False
    left, right = text[at - 1], text[at]
    if unicodedata.category(right).startswith("M") or _JOINER in (left, right) or right in _SKIN_TONES:
        return True
    if left in _FLAG_LETTERS and right in _FLAG_LETTERS:
        return True
    if right in _APOSTROPHES:
        return left.isalpha() and text[at + 1 : at + 2].isalpha()
    if left in _APOSTROPHES:
        return right.isalpha() and text[max(at - 2, 0) : at - 1].isalpha()
    return in_spaced_word(left) and in_spaced_word(right)


def in_spaced_word(character: str) -> bool:
    """Whether a character can stand in a word of a script that sets spaces between words."""
    if not (character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")):
        return False
    return character.isascii() or not unicodedata.name(character, "").startswith(_UNSPACED)
