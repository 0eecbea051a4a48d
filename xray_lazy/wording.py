"""Texts as people read them."""

AS_UTF_8 = "save it as UTF-8, e.g. `iconv -f GBK -t UTF-8 OLD > NEW`, with its own encoding after -f"


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 image`, `1,500 images`; `plural` where it isn't the singular with an s."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"


def not_utf_8(error: UnicodeDecodeError) -> str:
    """What is wrong with a text that is not UTF-8."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})"


def printable(text: str) -> str:
    """A text from outside that can be drawn and written: bytes of a name that are not UTF-8 are `\\udcXX` in it.

    Python has such bytes as lone surrogates, at which UTF-8 files end with an error and OpenCV with the process.
    """
    return text.encode("utf-8", "backslashreplace").decode()
