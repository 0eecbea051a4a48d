"""Near names for a mistyped one: "did you mean ...?"."""

import difflib
from collections.abc import Iterable


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """At most `count` of `candidates` that look like `name`, the best first; case counts only between equals."""
    by_lower: dict[str, list[str]] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), []).append(candidate)
    found = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)
    found = _almost_as_good(name.lower(), found, margin=0.2)
    return [candidate for lower in found for candidate in _almost_as_good(name, by_lower[lower], margin=1)][:count]


def nearest_keys(key: str, keys: Iterable[str], count: int = 3) -> list[str]:
    """At most `count` of the dotted `keys` that `key` may be a misspelling of.

    These are the keys whose last part is the same (`max_iter` for `train.max_iter`); where there is none, those that
    look like the whole; else those whose last part looks like its last part.
    """
    keys = list(keys)
    by_last: dict[str, list[str]] = {}
    for candidate in keys:
        by_last.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    last = key.rpartition(".")[2]
    alike = by_last.get(last) or nearest(key, keys, count)
    alike = alike or [candidate for part in nearest(last, by_last, count) for candidate in by_last[part]]
    return _almost_as_good(key, alike, margin=0.1)[:count]


def _almost_as_good(name: str, candidates: Iterable[str], margin: float) -> list[str]:
    """The candidates whose likeness to `name` (0 to 1) is within `margin` of the best one's, the best first."""
    likeness = {candidate: difflib.SequenceMatcher(None, name, candidate).ratio() for candidate in candidates}
    best = max(likeness.values(), default=0)
    return sorted((c for c in likeness if likeness[c] > best - margin), key=lambda c: -likeness[c])


def did_you_mean(names: list[str]) -> str:
    """`did you mean a, b or c?`, or nothing for no names."""
    if not names:
        return ""
    return f"did you mean {' or '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}?"
