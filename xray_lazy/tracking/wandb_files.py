"""What W&B has written of a run to disk: the rows of its history in every part, a part for each start of the run.

W&B's reader of these files is not public. They are a LevelDB log of protocol buffers, which the package brings.
"""

import functools
import json
import logging
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xray_lazy.utils.processes import open_files

logger = logging.getLogger(__name__)

# https://github.com/google/leveldb/blob/main/doc/log_format.md, behind a header of W&B's own
MAGIC, HEADER_SIZE = b":W&B", 7
BLOCK_SIZE, CHUNK_HEADER = 32768, struct.Struct("<IHB")  # checksum, size, kind
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class Row:
    """What one `log` gave to W&B: `step` is W&B's own count of the rows."""

    step: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """What one start of a run left on disk: `<folder>/run-<id>.wandb` and the files beside it."""

    file: Path

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def is_offline(self) -> bool:
        return self.folder.name.startswith("offline-")

    @property
    def is_sent(self) -> bool:
        """Whether it is marked as sent, as `wandb sync` does."""
        return self._marker.exists()

    def mark_sent(self) -> None:
        """Have `wandb sync` leave it out from now on."""
        self._marker.touch()

    @property
    def is_begun(self) -> bool:
        """Whether it was recorded offline, and sent in part, or in whole without being marked."""
        return self._begun.exists() and not self.is_sent

    def mark_begun(self) -> None:
        """Note, before it is sent as a whole, that from then on the server may have some of it."""
        self._begun.touch()

    @property
    def _begun(self) -> Path:
        return self.file.with_suffix(".wandb.begun")

    @property
    def _marker(self) -> Path:
        return self.file.with_suffix(".wandb.synced")

    def rows(self) -> list[Row]:
        """The history's rows as far as they got to the disk; none, with a warning, where the format is unknown."""
        return [_row(record.history) for record in self._records() if record.WhichOneof("record_type") == "history"]

    def summary(self) -> dict[str, Any]:
        """The run's summary as this start has left it on the disk."""
        records = [r.summary for r in self._records() if r.WhichOneof("record_type") == "summary"]
        return _values(item for summary in records for item in summary.update)

    def exit_code(self) -> int | None:
        """What the run ended with; None where it was killed."""
        codes = [r.exit.exit_code for r in self._records() if r.WhichOneof("record_type") == "exit"]
        return codes[-1] if codes else None

    def _records(self) -> list[Any]:
        from google.protobuf.message import DecodeError
        from wandb.proto.wandb_internal_pb2 import Record

        try:
            return [Record.FromString(message) for message in _messages(self.file.read_bytes())]
        except (OSError, ValueError, DecodeError) as error:
            logger.warning("can't read %s, its rows may appear twice in W&B: %s", self.file, error)
            return []


def find_parts(directory: str | Path, run_id: str) -> list[Part]:
    """The parts of a run in `<directory>/wandb`, the oldest first."""
    files = Path(directory, "wandb").glob(f"*run-*-{run_id}/run-{run_id}.wandb")
    # run-<date>_<time>-<id>: the time's order is the names' order, once "offline-" is off
    return sorted(map(Part, files), key=lambda part: part.folder.name.removeprefix("offline-"))


def has_ended(directory: str | Path, run_id: str) -> bool:
    """Whether nothing more comes from the last start of a run; also where it has left nothing on this disk."""
    *_, last = find_parts(directory, run_id) or [None]
    return last is None or last.is_sent or (last.is_offline and last.exit_code() is not None)


def wait_until_left(parts: Iterable[Part], seconds: float) -> bool:
    """Wait, so long at most, for W&B's processes of killed starts on this machine; whether none is left.

    Such a process ends by itself soon after its training, but what it still sends would replace a next start's rows.
    """
    deadline, files = time.monotonic() + seconds, {str(part.file.resolve()) for part in parts}
    while files and any(files & set(open_files(process)) for process in Path("/proc").glob("[0-9]*")):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _messages(data: bytes) -> Iterator[bytes]:
    """The messages of a log, up to where a killed process left it.

    Raises:
        ValueError: this is not such a log.
    """
    if not data.startswith(MAGIC[: len(data)]):
        raise ValueError("unknown file format")
    position, collected = HEADER_SIZE, b""
    while position + CHUNK_HEADER.size <= len(data):
        left = BLOCK_SIZE - position % BLOCK_SIZE
        if left < CHUNK_HEADER.size:
            position += left  # a header doesn't cross blocks
            continue
        checksum, size, kind = CHUNK_HEADER.unpack_from(data, position)
        position += CHUNK_HEADER.size
        chunk = data[position : position + size]
        # W&B's checksum is zlib's, where LevelDB has another
        if kind not in (WHOLE, FIRST, MIDDLE, LAST) or checksum != zlib.crc32(chunk, zlib.crc32(bytes([kind]))):
            return
        position += size
        collected = chunk if kind in (WHOLE, FIRST) else collected + chunk
        if kind in (WHOLE, LAST):
            yield collected


def _row(history: Any) -> Row:
    return Row(history.step.num, _values(history.item))


def _values(items: Iterable[Any]) -> dict[str, Any]:
    """Names and values without W&B's own, groups as dicts."""
    values: dict[str, Any] = {}
    for item in items:
        *above, name = item.nested_key or [item.key]
        if not (above or [name])[0].startswith("_"):
            inner = functools.reduce(lambda outer, key: outer.setdefault(key, {}), above, values)
            inner[name] = json.loads(item.value_json or "null")
    return values
