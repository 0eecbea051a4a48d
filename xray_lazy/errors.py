"""Errors that users can act on: tools print message and fix, and end with the error's exit code."""

EXIT_FAILURE = 1


class UserError(Exception):
    """A fault in what the person gave: a key, a file, a data set, a number of GPUs. Exit code 2.

    Args:
        message: what is wrong, with the names and numbers at hand.
        fix: what to do about it, printed on a line of its own; may be empty.
    """

    exit_code = 2

    def __init__(self, message: str, fix: str = ""):
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\nfix: {self.fix}" if self.fix else self.message

    def __reduce__(self):
        # Worker processes send their errors to the parent by pickle, which would drop `fix`.
        return type(self), (self.message, self.fix)


class RunFailure(UserError):
    """A run that had begun can't go on: the loss is not finite, the disk is full. Exit code 1."""

    exit_code = EXIT_FAILURE
