"""Texts as people read them."""

import io
import re
import shlex

from xray_lazy.utils.console_streams import print_nowhere

_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)  # the last ones turn the order round
_CONTROL_OF_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CONTROL_OF_TERMINAL = re.compile(rf"(?!\x1b\[(?:[\d;]*m|[0-2]?K|\d*A|\?25[lh])){_CONTROL_OF_LINES.pattern}")

AS_UTF_8 = "save it as UTF-8, e.g. `iconv -f GBK -t UTF-8 OLD > NEW`, with its own encoding after -f"


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 image`, `1,500 images`; `plural` where it isn't the singular with an s."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"


def not_utf_8(error: UnicodeDecodeError) -> str:
    """What is wrong with a text that is not UTF-8."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})"


def tool_command(tool: str, *words: object) -> str:
    """A call of a tool as a shell takes it: `python tools/dataset.py check 'my set.json' images`."""
    return f"python tools/{tool}.py {shlex.join(map(str, words))}"


def printable(text: str) -> str:
    """A text from outside that can be drawn and written, in one line: bytes of a name that are not UTF-8 are `\\udcXX`
    in it, control characters `\\x1b`.

    Python has such bytes as lone surrogates, at which UTF-8 files end with an error and OpenCV with the process.
    """
    return _CONTROL.sub(_escaped, text.encode("utf-8", "backslashreplace").decode())


def for_console(text: str, is_terminal: bool) -> str:
    """What a tool prints, lines and tables, without control characters that a name in it brings along.

    A terminal gets the colours and the moves of the cursor that tables and bars are made of; it gets no others.
    """
    return (_CONTROL_OF_TERMINAL if is_terminal else _CONTROL_OF_LINES).sub(_escaped, text)


def _escaped(match: re.Match) -> str:
    return match[0].encode("unicode_escape").decode()


def clean_what_is_printed(stream: object) -> None:
    """Let a console's stream print names of files and classes that its encoding doesn't know, or a terminal obeys.

    Where nobody reads any more (`tool | head -1`), the rest is not printed, and the tool's work goes on.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return
    stream.reconfigure(errors="backslashreplace")
    if "write" not in vars(stream):
        write, flush, is_terminal = stream.write, stream.flush, stream.isatty()

        def cleaned(text: str) -> int:
            try:
                return write(for_console(text, is_terminal))
            except BrokenPipeError:
                print_nowhere(stream.fileno())
                return len(text)

        def flushed() -> None:
            try:
                flush()
            except BrokenPipeError:
                print_nowhere(stream.fileno())

        stream.write, stream.flush = cleaned, flushed
