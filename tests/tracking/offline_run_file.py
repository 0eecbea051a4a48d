"""Read what W&B recorded offline, with W&B's own record format."""

import json
import struct
import time
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7
WHOLE, LAST = 1, 4


def read_finished(folder: str | Path) -> list[Record]:
    """The records of the one run under `folder`; W&B's service writes the last of them some moments after the end."""
    (path,) = Path(folder).rglob("*.wandb")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        records = read_records(path)
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)
    raise TimeoutError(f"{path} has no end")


def read_records(path: Path) -> list[Record]:
    """The records of a run file: a LevelDB log of protocol buffers."""
    data, position, collected, records = path.read_bytes(), FILE_HEADER, b"", []
    while position + CHUNK_HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < CHUNK_HEADER:
            position += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        position += CHUNK_HEADER
        if position + size > len(data):  # W&B's service is writing it just now
            break
        collected += data[position : position + size]
        position += size
        if kind in (WHOLE, LAST):
            records.append(Record.FromString(collected))
            collected = b""
    return records


def history(records: list[Record]) -> list[dict]:
    """The logged rows, W&B's own keys left out."""
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            rows.append({name: value for name, value in items.items() if not name.startswith("_")})
    return rows


def config(records: list[Record]) -> dict:
    """The run's config."""
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    return {item.key: json.loads(item.value_json) for item in run.config.update if item.key != "_wandb"}


def run(records: list[Record]):
    """The run's own record: id, project, name, tags."""
    (found,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    return found


def axes(records: list[Record]) -> dict[str, str]:
    """The step metric of each defined metric or pattern."""
    metrics = [record.metric for record in records if record.WhichOneof("record_type") == "metric"]
    return {metric.name or metric.glob_name: metric.step_metric for metric in metrics}


def summary(records: list[Record]) -> dict:
    """The run's summary at its end, W&B's own keys left out."""
    values: dict = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                values["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return {name: value for name, value in values.items() if not name.startswith("_")}
