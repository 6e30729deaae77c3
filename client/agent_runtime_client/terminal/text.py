"""Text that models, tools and other people wrote, made safe to print."""

import re
import unicodedata

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movements
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS and friends: titles, clipboard, links
    r"|\x1b[ -/]*[0-~]",
    re.DOTALL,
)
_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
_TAB_WIDTH = 4


def _is_trick(char: str) -> bool:
    """Controls, direction overrides, invisible format characters, lone surrogates and private characters."""
    return char not in "\n\u200d" and unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co"}


def clean(text: str) -> str:
    """The text without anything a terminal would obey instead of show; lines and tabs stay lines and gaps."""
    text = _LINE_ENDS.sub("\n", _ESCAPE_SEQUENCE.sub("", text)).replace("\t", " " * _TAB_WIDTH)
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join("" if _is_trick(char) else char for char in text)


def reveal(text: str) -> str:
    """The text with everything a terminal would obey or hide spelled out, for people who must decide on it."""
    text = text.replace("\r\n", "\\r\n").replace("\t", " " * _TAB_WIDTH)
    return "".join(
        char.encode("unicode_escape", "surrogatepass").decode("ascii")
        if _is_trick(char) or unicodedata.category(char) in {"Zl", "Zp"}
        else char
        for char in text
    )


def shorten(text: str, width: int) -> str:
    """The text as one line of at most `width` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def count(number: int, noun: str) -> str:
    """Say `1 line`, `2 lines`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
