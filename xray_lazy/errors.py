"""The one exception that means "the person can fix this": tools print it as a message and end with exit code 2."""


class UserError(Exception):
    """A fault in what the person gave: a key, a file, a data set, a number of GPUs.

    Args:
        message: what is wrong, with the names and numbers at hand.
        fix: what to do about it, printed on a line of its own; may be empty.
    """

    def __init__(self, message: str, fix: str = ""):
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\nfix: {self.fix}" if self.fix else self.message

    def __reduce__(self):
        # Worker processes send their errors to the parent by pickle, which would drop `fix`.
        return type(self), (self.message, self.fix)
