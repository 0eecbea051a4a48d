"""Many dataset dicts in little memory: serialised, each unpacked when it is asked for."""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


class PackedRecords(Sequence[dict]):
    """A read-only sequence of records: a changed one changes nothing here.

    Processes that are forked share it for good: reading counts no references in it, where each process would soon have
    a copy of its own of a list of dicts.
    """

    def __init__(self, records: Iterable[dict]):
        import numpy as np  # who only lists data sets may have a Python without packages

        content, ends = bytearray(), []
        for record in records:
            content += pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
            ends.append(len(content))
        self._bytes = np.frombuffer(content, dtype=np.uint8)
        self._starts, self._ends = np.array([0, *ends[:-1]][: len(ends)], np.int64), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        """A record, or a list of those of a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        return pickle.loads(self._bytes[self._starts[place] : self._ends[place]].data)

    def __iter__(self) -> Iterator[dict]:
        content = self._bytes.data
        for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True):
            yield pickle.loads(content[start:end])

    def in_order(self, places: Sequence[int]) -> "PackedRecords":
        """The records at these places, which may repeat, in the same memory."""
        chosen = PackedRecords(())
        chosen._bytes, chosen._starts, chosen._ends = self._bytes, self._starts.take(places), self._ends.take(places)
        return chosen


def packed(records: Sequence[dict]) -> PackedRecords:
    """The records as they are where they are packed."""
    return records if isinstance(records, PackedRecords) else PackedRecords(records)
