"""Numbers that have a meaning only in a range: what flags and the config's keys are checked against."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """A range, each end with or without the limit itself: `Limits(above=0, most=1)` is (0, 1].

    Infinity and NaN are in none; `whole` numbers have no fraction.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    whole: bool = False

    def complaint(self, number: float) -> str:
        """Why `number` is not in here, such as "-1 is less than 0"; nothing where it is."""
        if not math.isfinite(number):
            return f"{number} is not a finite number"
        if self.whole and number != int(number):
            return f"{number} is not a whole number"
        if self.least is not None and number < self.least:
            return f"{number} is less than {self.least}"
        if self.most is not None and number > self.most:
            return f"{number} is more than {self.most}"
        if self.above is not None and number <= self.above:
            return f"{number} is not above {self.above}"
        if self.below is not None and number >= self.below:
            return f"{number} is not below {self.below}"
        return ""

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.least is not None and self.most is not None:
            return f"{kind} from {self.least} to {self.most}"
        ends = (("above", self.above), ("of at least", self.least), ("below", self.below), ("of at most", self.most))
        texts = [f"{word} {end}" for word, end in ends if end is not None]
        return f"{kind} {' and '.join(texts)}".strip()
