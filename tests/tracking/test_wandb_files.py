"""Reading the files that W&B writes: whole, cut off anywhere, or of another kind."""

import json
import os
import shlex
import signal
import struct
import subprocess
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wandb.proto.wandb_internal_pb2 import Record

from tests.patience import PATIENCE
from xray_lazy.errors import UserError
from xray_lazy.tracking.wandb_files import BLOCK_SIZE, Part, find_parts, wait_until_left
from xray_lazy.tracking.wandb_sync import send_runs

HEADER = b":W&B\xd4\xbe\x00"


def record_of(step: int, value: object) -> bytes:
    record = Record()
    record.history.step.num = step
    for name, number in (("iteration", step), ("loss", value), ("_runtime", 1)):
        record.history.item.add(nested_key=[name], value_json=json.dumps(number))
    return record.SerializeToString()


def chunk_of(piece: bytes, kind: int) -> bytes:
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece


def log_of(messages: list[bytes]) -> bytes:
    """A LevelDB log, by its description: chunks of at most a block, no chunk across blocks."""
    data = bytearray(HEADER)
    for message in messages:
        rest, first = message, True
        while first or rest:
            left = BLOCK_SIZE - len(data) % BLOCK_SIZE
            if left < 7:
                data += bytes(left)
                continue
            piece, rest = rest[: left - 7], rest[left - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not rest]
            data += chunk_of(piece, kind)
            first = False
    return bytes(data)


def part_of(folder, data: bytes) -> Part:
    path = folder / "run-abc.wandb"
    path.write_bytes(data)
    return Part(path)


@given(sizes=st.lists(st.integers(0, 3 * BLOCK_SIZE), max_size=6), data=st.data())
def test_a_file_cut_off_anywhere_gives_the_rows_before(tmp_path_factory, sizes, data):
    # from 1: step 0 ends its message with a zero byte, which zeros behind a cut would complete
    messages = [record_of(number, "x" * size) for number, size in enumerate(sizes, start=1)]
    whole = log_of(messages)
    folder = tmp_path_factory.mktemp("part")
    steps = [row.step for row in part_of(folder, whole).rows()]
    assert steps == list(range(1, len(sizes) + 1))
    cut = data.draw(st.integers(0, len(whole)))
    found = part_of(folder, whole[:cut]).rows()
    ends = [len(log_of(messages[: number + 1])) for number in range(len(messages))]
    assert [row.step for row in found] == [number for number, end in enumerate(ends, start=1) if end <= cut]
    assert part_of(folder, whole[:cut] + bytes(100)).rows() == found


def test_rows_have_no_keys_of_wandbs_own(tmp_path):
    (row,) = part_of(tmp_path, log_of([record_of(4, 7)])).rows()
    assert (row.step, row.values) == (4, {"iteration": 4, "loss": 7})


@pytest.mark.parametrize("data", [b"SQLite format 3", HEADER + chunk_of(b"\xff\xff\xff\xff", 1)])
def test_an_unknown_format_is_a_warning_that_says_what_follows(tmp_path, data, caplog):
    assert part_of(tmp_path, data).rows() == []
    assert "may appear twice" in caplog.text


def test_parts_come_in_the_order_of_their_starts_and_of_one_run_only(tmp_path):
    names = ["run-20300102_000000-abc", "offline-run-20300101_000000-abc", "run-20300101_000001-abcd"]
    for name in names:
        folder = tmp_path / "wandb" / name
        folder.mkdir(parents=True)
        (folder / f"run-{name.rsplit('-', 1)[1]}.wandb").touch()
    (tmp_path / "wandb" / "latest-run").symlink_to(tmp_path / "wandb" / names[0])
    found = find_parts(tmp_path, "abc")
    assert [part.folder.name for part in found] == [names[1], names[0]]
    assert [part.is_offline for part in found] == [True, False]
    found[0].mark_sent()
    assert [part.is_sent for part in found] == [True, False]


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds W&B's process in /proc")
def test_a_part_is_left_when_the_process_that_writes_it_has_ended(tmp_path):
    part = Part(tmp_path / "run-20300101_000000-abc" / "run-abc.wandb")
    part.folder.mkdir()
    command = f"sleep 600 > {shlex.quote(str(part.file))} & echo $!"  # as W&B's process, whose parent was killed
    writer = int(subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE).stdout)
    try:
        assert not wait_until_left([part], seconds=0.2)
    finally:
        os.kill(writer, signal.SIGKILL)
    assert wait_until_left([part], seconds=PATIENCE)


def test_folders_without_a_run_are_told_before_anybody_has_to_log_in(tmp_path):
    with pytest.raises(UserError, match=r"there is no run record .*run.json, .*nothing"):
        send_runs([tmp_path, tmp_path / "nothing"])
