"""metrics.json: strict, complete, nothing twice, after a crash as well."""

import errno
import fcntl
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict

from detectron2.utils.events import EventStorage, JSONWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_lazy.run_folder import read_json_lines
from xray_lazy.tracking.json_lines import JsonWriter


def strict_lines(path) -> list[dict]:
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def train(storage: EventStorage, writer, iterations: range) -> None:
    for storage.iter in iterations:
        storage.put_scalars(total_loss=float(storage.iter % 7), loss_cls=0.1)
        storage.put_scalar("lr", storage.iter / 100, smoothing_hint=False)
        if (storage.iter + 1) % 5 == 0:
            writer.write()


def test_the_lines_are_those_of_detectron2s_writer(tmp_path):
    with EventStorage() as storage:
        train(storage, JsonWriter(str(tmp_path / "ours.json")), range(100))
    with EventStorage() as storage:
        train(storage, JSONWriter(str(tmp_path / "theirs.json")), range(100))
    assert strict_lines(tmp_path / "ours.json") == strict_lines(tmp_path / "theirs.json")


def test_an_evaluation_after_the_write_is_read_with_its_iteration(tmp_path):
    path = tmp_path / "metrics.json"
    writer = JsonWriter(str(path))
    with EventStorage(499) as storage:
        storage.put_scalar("total_loss", 1.0)
        writer.write()
        storage.put_scalar("bbox/AP", 36.8, smoothing_hint=False)
        writer.write()
        writer.write()
        storage.iter = 500
        storage.put_scalar("total_loss", 3.0)
        writer.write()
    assert len(strict_lines(path)) == 3
    assert read_json_lines(path) == [
        {"iteration": 499, "total_loss": 1.0, "bbox/AP": 36.8},
        {"iteration": 500, "total_loss": 2.0},
    ]


def test_what_another_process_adds_for_an_earlier_iteration_is_read_in_its_place(tmp_path):
    path = tmp_path / "metrics.json"
    trainer, evaluator = JsonWriter(str(path)), JsonWriter(str(path))
    with EventStorage() as storage:
        train(storage, trainer, range(20))
    with EventStorage(9) as storage:
        storage.put_scalars(**{"bbox/AP": 36.8, "bbox/AP-gun": float("nan")}, smoothing_hint=False)
        evaluator.write()
    with EventStorage(12) as storage:  # an iteration that training has not logged
        storage.put_scalar("bbox/AP", 40.0, smoothing_hint=False)
        evaluator.write()
    lines = read_json_lines(path)
    assert [line["iteration"] for line in lines] == [4, 9, 12, 14, 19]
    assert lines[1]["bbox/AP"] == 36.8 and lines[1]["bbox/AP-gun"] is None and lines[1]["lr"] == 0.09


def test_a_resumed_run_keeps_what_an_evaluator_wrote_before_and_after_it_started(tmp_path, run):
    path = tmp_path / "metrics.json"
    evaluator = JsonWriter(str(path))
    with EventStorage() as storage:
        train(storage, JsonWriter(str(path)), range(20))
    with EventStorage(9) as storage:
        storage.put_scalar("bbox/AP", 36.8, smoothing_hint=False)
        evaluator.write()
    run.start_iteration, run.resumed = 15, True
    JsonWriter(str(path)).start(run)
    with EventStorage(14) as storage:
        storage.put_scalar("bbox/AP", 40.0, smoothing_hint=False)
        evaluator.write()  # into the new file, though it had written to the old one
    lines = strict_lines(path)
    assert [(line["iteration"], line.get("bbox/AP")) for line in lines] == [(4, None), (9, 36.8), (14, None), (14, 40)]


def test_half_a_line_of_a_killed_process_spoils_no_other_line(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 4, "total_loss": 1.0}\n{"iteration": 9, "tot')
    with EventStorage(9) as storage:
        storage.put_scalar("bbox/AP", 36.8, smoothing_hint=False)
        JsonWriter(str(path)).write()
    assert read_json_lines(path) == [{"iteration": 4, "total_loss": 1.0}, {"iteration": 9, "bbox/AP": 36.8}]


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with EventStorage(4) as storage:
        storage.put_scalar("bbox/AP", 36.8, smoothing_hint=False)
        JsonWriter(str(tmp_path / "metrics.json")).write()
    assert read_json_lines(tmp_path / "metrics.json") == [{"iteration": 4, "bbox/AP": 36.8}]


def test_a_class_without_instances_is_null(tmp_path):
    writer = JsonWriter(str(tmp_path / "metrics.json"))
    with EventStorage() as storage:
        storage.put_scalar("bbox/AP-gun", float("nan"), smoothing_hint=False)
        storage.put_scalar("total_loss", float("inf"))
        writer.write()
    assert strict_lines(tmp_path / "metrics.json") == [{"iteration": 0, "bbox/AP-gun": None, "total_loss": None}]


def test_a_resumed_run_has_each_replayed_iteration_once(tmp_path, run):
    path = tmp_path / "metrics.json"
    with EventStorage() as storage:
        train(storage, JsonWriter(str(path)), range(50))
    with open(path, "a") as stream:
        stream.write('{"iteration": 54, "total_lo')  # the moment of the crash
    run.start_iteration, run.resumed = 30, True
    writer = JsonWriter(str(path))
    writer.start(run)
    assert [line["iteration"] for line in strict_lines(path)] == [4, 9, 14, 19, 24, 29]
    with EventStorage(30) as storage:
        train(storage, writer, range(30, 60))
    writer.close()
    assert [line["iteration"] for line in strict_lines(path)] == list(range(4, 60, 5))


def test_a_new_run_starts_with_an_empty_file(tmp_path, run):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 4, "total_loss": 1.0}\n')
    JsonWriter(str(path)).start(run)
    assert path.read_text() == ""


WRITE_FOR_EVER = """
import itertools, sys
from detectron2.utils.events import EventStorage
from xray_lazy.tracking.json_lines import JsonWriter
writer = JsonWriter(sys.argv[1])
with EventStorage() as storage:
    for storage.iter in itertools.count():
        storage.put_scalar("lr", storage.iter, smoothing_hint=False)
        writer.write()
        storage.put_scalar("bbox/AP", storage.iter, smoothing_hint=False)
        writer.write()
"""


def write_for_ever(path):
    return subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)])


def wait_for_size(path, size, *processes):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (path.exists() and path.stat().st_size > size):
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_process_leaves_whole_lines(tmp_path):
    path = tmp_path / "metrics.json"
    wait_for_size(path, 20_000, write_for_ever(path))
    assert path.read_bytes().endswith(b"}\n")
    assert len(strict_lines(path)) > 100
    lines = read_json_lines(path)
    assert [line["iteration"] for line in lines] == list(range(len(lines)))
    assert all(line["bbox/AP"] == line["lr"] == line["iteration"] for line in lines[:-1])


def test_two_processes_write_one_file_without_spoiling_a_line(tmp_path, run):
    path = tmp_path / "metrics.json"
    processes = [write_for_ever(path), write_for_ever(path)]
    for size in (10_000, 20_000, 30_000):
        wait_for_size(path, size)
        run.start_iteration = 10**9
        JsonWriter(str(path)).start(run)  # as a run does that is resumed meanwhile
    wait_for_size(path, 60_000, *processes)
    lines = read_json_lines(path)
    assert len(strict_lines(path)) > len(lines) > 100
    assert all(line["bbox/AP"] == line["lr"] == line["iteration"] for line in lines[:-1])


events = st.lists(
    st.tuples(st.sampled_from(["put", "write", "step"]), st.sampled_from("abc"), st.floats(width=32)), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(events=events)
def test_any_order_of_puts_and_writes_keeps_the_first_written_value_of_each_name_and_iteration(
    events, tmp_path_factory
):
    path = tmp_path_factory.mktemp("any") / "metrics.json"
    writer = JsonWriter(str(path))
    latest, expected = {}, defaultdict(dict)
    with EventStorage() as storage:
        for action, name, value in [*events, ("write", "a", 0.0)]:
            if action == "put":
                storage.put_scalar(name, value, smoothing_hint=False)
                latest[name] = (storage.iter, value)
            elif action == "step":
                storage.iter += 1
            else:
                writer.write()
                for key, (iteration, number) in latest.items():
                    finite = number if abs(number) < float("inf") else None
                    expected[iteration].setdefault(key, finite)
    writer.close()
    lines = read_json_lines(path) if path.exists() else []
    assert {line.pop("iteration"): line for line in lines} == expected
