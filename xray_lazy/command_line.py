"""How every tool ends: 0 done, 1 failure while running, 2 the person's to fix; tracebacks only with --debug."""

import errno
import os
import sys
from collections.abc import Callable

from xray_lazy.errors import UserError

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count


def run_tool(main: Callable[[], int | None], debug: bool = False) -> None:
    """Call `main()` and leave the process with its exit code.

    Args:
        main: the tool's work; returns its exit code, or None for 0.
        debug: let exceptions through with their traceback.

    A `UserError` is printed as its message and fix; a full disk and a closed pipe get a message of their own.
    Modules in the present folder can be imported, as with `python -m`, so that configs may name a person's own classes.
    """
    try:
        sys.path.append(os.getcwd())  # last: a file there doesn't stand in for an installed package of the same name
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        if debug:
            raise
        print_error(error.message, error.fix)
        code = error.exit_code
    except BrokenPipeError:
        # `tool | head` closes our output; say nothing, and keep Python from complaining at its own exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILURE
    except KeyboardInterrupt:
        print_error("interrupted", "")
        code = EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            print_error(f"the disk is full: {error}", "free some space; what was complete before is untouched")
        else:
            print_error(f"{type(error).__name__}: {error}", "run again with --debug to see where it happened")
        code = EXIT_FAILURE
    sys.exit(code)


def print_error(message: str, fix: str) -> None:
    """Print one error to standard error, the fix on its own line."""
    print(f"error: {message}", file=sys.stderr)
    if fix:
        print(f"  fix: {fix}", file=sys.stderr)
    sys.stderr.flush()
