"""Texts as people read them."""


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 picture`, `1,500 pictures`; `plural` where it isn't the singular with an s."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"


def printable(text: str) -> str:
    """A text from outside that can be drawn and written: bytes of a name that are not UTF-8 are `\\udcXX` in it.

    Python has such bytes as lone surrogates, at which UTF-8 files end with an error and OpenCV with the process.
    """
    return text.encode("utf-8", "backslashreplace").decode()
