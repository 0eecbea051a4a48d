"""metrics.json: strict, complete, nothing twice, after a crash as well."""

import json
import signal
import subprocess
import sys
import time
from collections import defaultdict

from detectron2.utils.events import EventStorage, JSONWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_lazy.tracking.json_lines import JsonWriter, read_json_lines


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


def test_an_evaluation_after_the_write_joins_the_line_of_its_iteration(tmp_path):
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
    assert strict_lines(path) == [
        {"iteration": 499, "total_loss": 1.0, "bbox/AP": 36.8},
        {"iteration": 500, "total_loss": 2.0},
    ]


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


def test_a_killed_process_leaves_whole_lines(tmp_path):
    path = tmp_path / "metrics.json"
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)]) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (path.exists() and path.stat().st_size > 20_000):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes().endswith(b"}\n")
    lines = strict_lines(path)
    assert [line["iteration"] for line in lines] == list(range(len(lines)))
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
    merged = defaultdict(dict)
    for line in read_json_lines(path) if path.exists() else []:
        iteration = line.pop("iteration")
        assert not merged[iteration].keys() & line.keys()
        merged[iteration].update(line)
    assert merged == expected
