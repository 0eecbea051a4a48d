"""Periods of a run: a number of iterations, or of epochs as in "1 epoch" and "0.5 epochs"."""

import math
import re
from typing import Any

_EPOCHS = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*epochs?\s*")
PERIOD_FIX = "give a number of iterations, such as 500, or of epochs, such as '1 epoch' or '0.5 epochs'"


def is_period_key(part: Any) -> bool:
    """Whether the last part of a key names a period (`eval_period`, `keep_every`) or a span (`warmup_iters`)."""
    return isinstance(part, str) and part.endswith(("period", "_iters", "keep_every"))


def parse_epochs(text: Any) -> float | None:
    """The number of epochs in a text like "1 epoch", above 0; None where it says nothing of the kind."""
    match = _EPOCHS.fullmatch(text) if isinstance(text, str) else None
    number = float(match[1]) if match else 0.0
    return number if 0 < number < math.inf else None
