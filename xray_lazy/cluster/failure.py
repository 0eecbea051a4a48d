"""What a process that failed said last, as a reason and what to do about it."""

import signal
from collections.abc import Sequence


def tells_why(tail: Sequence[str]) -> bool:
    """Whether a process gave a reason among its last lines; one that ends because another has failed may not."""
    return any(line.startswith("error: ") for line in tail)


def explain_failure(code: int, tail: Sequence[str]) -> tuple[str, str]:
    """Reason and fix of a failure.

    Args:
        code: the process's exit code; negative: the signal that killed it.
        tail: the last lines that it printed; tools end with "error: ..." and, on a line of its own, "  fix: ...".
    """
    if code < 0:
        killed = f"its process was killed by {signal.Signals(-code).name}"
        return killed, "if no person did that, memory may have run out: ask for more of it, or use fewer workers"
    begin = max((number for number, line in enumerate(tail) if line.startswith("error: ")), default=None)
    if begin is None:
        return tail[-1] if tail else f"it ended with exit code {code}", ""
    message, fix = [tail[begin].removeprefix("error: ")], ""
    for line in tail[begin + 1 :]:
        if line.startswith("  fix: "):
            fix = line.removeprefix("  fix: ")
            break
        message.append(line)
    return "\n".join(message), fix
