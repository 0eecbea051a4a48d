"""W&B's agents as processes of this machine: each asks W&B for trials and starts our launcher for them."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from xray_lazy.errors import RunFailure
from xray_lazy.failure import FAILURE_FILE, PLACE, RUN_ID
from xray_lazy.sweeps.local_launcher import OUTPUT, SAVING_SECONDS, LocalLauncher, LocalTrial
from xray_lazy.sweeps.wandb_registration import trial_folder
from xray_lazy.utils.file_end import last_lines
from xray_lazy.utils.interruption import ENDING, heard

POLL_SECONDS = 1.0
WATCH_SECONDS = 15.0
SHOWN_LINES = 15


def run_agents(
    path: str,
    folder: Path,
    places: Sequence[Mapping[str, str]],
    count: int | None = None,
    watch: Callable[[], None] = lambda: None,
) -> int | None:
    """Run an agent in each place until W&B has no more trials for them; returns the signal that ended it, if any.

    What an agent and its trials print is in `agents/<number>/output.txt`. On SIGINT and SIGTERM trials save and leave;
    the second one ends them at once.

    Args:
        path: "entity/project/id" of the sweep.
        folder: of the sweep.
        places: what each agent's environment has more than this process's: the devices of its trials.
        count: trials that the agents run altogether; None for as many as W&B has.
        watch: called every `WATCH_SECONDS` and at the end.

    Raises:
        RunFailure: an agent ended with an error; the others have gone on.
    """
    counts = _shared_out(count, len(places))
    launcher = LocalLauncher(places[: len(counts)])
    agents: list[LocalTrial] = []
    for number, trials in enumerate(counts):
        agents.append(launcher.start(_command(path, trials), _folder(folder, number), _environment(folder)))
    with _signals_to(agents) as signals:
        watched = time.monotonic()
        while any(agent.poll() is None for agent in agents):
            time.sleep(POLL_SECONDS)
            if time.monotonic() - watched > WATCH_SECONDS:
                watch()
                watched = time.monotonic()
    watch()
    for number, agent in enumerate(agents):
        if agent.poll() and not signals:
            lines = last_lines(_folder(folder, number) / OUTPUT)[-SHOWN_LINES:]
            raise RunFailure("\n    ".join([f"agent {number} ended with an error:", *lines]))
    return signals[0] if signals else None


def _shared_out(count: int | None, places: int) -> list[int | None]:
    """How many trials each agent runs; agents without any aren't started."""
    if count is None:
        return [None] * places
    return [count // places + (number < count % places) for number in range(min(places, count))]


def _command(path: str, trials: int | None) -> list[str]:
    limit = ["--count", str(trials)] if trials else []
    return [sys.executable, "-m", "wandb", "agent", "--forward-signals", *limit, path]


def _environment(folder: Path) -> dict[str, str]:
    return {
        # `${interpreter}` is the python of the path
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "WANDB_DIR": str(folder.resolve()),
        PLACE: str(trial_folder(folder.resolve(), RUN_ID) / FAILURE_FILE),
        # a trial that W&B stops early saves before it leaves
        "WANDB_AGENT_KILL_DELAY": str(SAVING_SECONDS),
        # trials that fail in their first minute are of no more meaning than later ones; five from the start on are
        "WANDB_AGENT_DISABLE_FLAPPING": "true",
    }


def _folder(folder: Path, number: int) -> Path:
    return folder / "agents" / str(number)


@contextmanager
def _signals_to(agents: Sequence[LocalTrial]) -> Iterator[list[int]]:
    """Hand `ENDING` signals on; the list has those that came."""
    came: list[int] = []

    def hand_on(number: int, _: object) -> None:
        is_again = number in came  # SIGTERM and SIGHUP come together at a session's end
        came.append(number)
        for agent in agents:
            if agent.poll() is None:
                agent.kill() if is_again else agent.stop()

    with heard(ENDING, hand_on):
        yield came
