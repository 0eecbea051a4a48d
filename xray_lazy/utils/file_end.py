"""The end of a file that a process writes its output to."""

from pathlib import Path

BYTES = 20_000


def last_lines(path: Path) -> list[str]:
    """The lines in the file's last 20 kB that are not blank; none where there is no file."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, path.stat().st_size - BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    # progress bars write over their line
    return [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n") if line.strip()]
