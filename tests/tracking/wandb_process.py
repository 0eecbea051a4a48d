"""A training of some rows in a process of its own, whose W&B session tests disturb.

    python wandb_process.py OUTPUT '{"start": 0, "stop": 20, ...}'

It prints "started", what `pause` asks for, and at the end its longest waits as JSON.
"""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_session import WandbSession

DEFAULTS = {"mode": "online", "timeout": 5, "start": 0, "evaluate": 5, "pause": None, "end": "", "pace": 0.0}
DEFAULTS |= {"stop_service": None, "service_signal": "SIGSTOP"}


def main(output: str, given: str) -> None:
    asked = {**DEFAULTS, **json.loads(given)}
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("wandb").setLevel(logging.ERROR)
    record_file = Path(output) / "run.json"
    resumed = record_file.exists()
    run = RunRecord.read(record_file) if resumed else new_record(output)
    run.resumed = resumed
    run.start_iteration = asked["start"]
    session = WandbSession(output, None, asked["mode"], asked["timeout"], {"project": "xray"})
    begin = time.monotonic()
    run.wandb_id = session.start(run).get("wandb_id", run.wandb_id)
    waits = {"start": time.monotonic() - begin}
    run.write(record_file)
    print("started", flush=True)
    try:
        waits["log"] = train(session, asked)
    finally:
        begin = time.monotonic()
        session.close()
        waits["close"] = time.monotonic() - begin
    print(json.dumps(waits), flush=True)


def new_record(output: str) -> RunRecord:
    """A run's record that takes no time to collect."""
    facts = {"command": "train", "overrides": [], "config": {"writers": {"wandb": {"project": "xray"}}}, "seed": 0}
    facts |= {"world_size": 1, "git": None, "versions": {}, "devices": [], "host": "here", "start_time": "2030-01-01"}
    return RunRecord(output_dir=output, **facts)


def train(session: WandbSession, asked: dict) -> float:
    """Log a row for each iteration and one more for each evaluation; returns the longest wait in seconds."""
    longest = 0.0
    for iteration in range(asked["start"], asked["stop"]):
        if iteration == asked["pause"]:
            pause()
        if iteration == asked["stop_service"]:
            for service in services():
                os.kill(service, signal.Signals[asked["service_signal"]])
        begin = time.monotonic()
        session.log({"iteration": iteration, "loss": 1 / (iteration + 1)})
        if (iteration + 1) % asked["evaluate"] == 0:
            session.log({"iteration": iteration, "AP": iteration / 2})
        longest = max(longest, time.monotonic() - begin)
        time.sleep(asked["pace"])
    if asked["pause"] == asked["stop"]:
        pause()
    end(session, asked["end"])
    return longest


def pause() -> None:
    print("paused", flush=True)
    sys.stdin.readline()


def end(session: WandbSession, how: str) -> None:
    if how == "fail":
        raise RuntimeError("the loss is not finite")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "preempt":
        session.mark_preempting()
    if how.startswith("kill"):
        time.sleep(1)  # what was logged is on disk
        for service in services() if how == "kill all" else ():
            os.kill(service, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def services() -> list[int]:
    """W&B's own processes that this one has started, by their numbers."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    children = [int(number) for task in tasks for number in task.read_text().split()]
    return [number for number in children if "wandb-core" in Path(f"/proc/{number}/cmdline").read_text()]


if __name__ == "__main__":
    import wandb  # noqa: F401  # its import is no wait for a server

    main(*sys.argv[1:])
