"""The W&B run behind the writer: online or offline, resumed by its id, and never a reason for training to stop."""

import logging
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xray_lazy.env import wandb_login
from xray_lazy.errors import UserError
from xray_lazy.tracking.run_record import RunRecord

logger = logging.getLogger(__name__)

MODES = ("auto", "online", "offline", "disabled")
# W&B's own step only grows and would drop what a resumed run does again, so the iteration is a logged value.
AXES = ("iteration", "epoch", "images_seen")


class WandbSession:
    """One start of a W&B run; any failure of W&B's is one warning, and nothing is sent after it.

    Args:
        directory: W&B puts its files into `<directory>/wandb`.
        name: of the run; default the name of the output folder.
        mode: "online", "offline", "disabled"; "auto" obeys `WANDB_MODE`, else is online where someone is logged in and
            offline elsewhere.
        timeout: seconds that W&B may take to start, and to send the rest at the end.
        options: further arguments of `wandb.init`: project, entity, group, tags, notes, job_type.

    Raises:
        UserError: there is no such mode.
    """

    def __init__(self, directory: str, name: str | None, mode: str, timeout: float, options: Mapping[str, Any]):
        if mode not in MODES:
            raise UserError(f"the W&B mode is {mode!r}", f"set mode to one of {', '.join(MODES)}")
        self._directory, self._name, self._mode, self._timeout = directory, name, mode, timeout
        self._options = dict(options)
        self._run = None

    @property
    def is_open(self) -> bool:
        """Whether what is logged goes anywhere."""
        return self._run is not None

    def start(self, run: RunRecord) -> dict:
        """Open the W&B run, the same one when `run` is resumed; returns its id."""
        mode = self._choose_mode()
        if mode == "disabled":
            return {}
        # a sweep's agent says by the environment which run this is
        run_id = os.environ.get("WANDB_RUN_ID") or run.wandb_id or secrets.token_hex(4)
        try:
            self._run = self._open(run, run_id, mode)
        except ImportError:
            logger.warning("W&B is not installed, nothing is logged there; fix: pip install wandb")
            return {}
        except Exception as error:
            if mode == "offline":
                return self._give_up("start", error)
            logger.warning("W&B can't be reached, the run is recorded offline: %s", _first_line(error))
            return self._start_offline(run, run_id)
        self._announce()
        return {"wandb_id": run_id}

    def log(self, values: Mapping[str, Any]) -> None:
        """Add one row to the run's history."""
        if self._run is None:
            return
        try:
            self._run.log(dict(values))
        except Exception as error:
            self._give_up("log", error)

    def close(self) -> None:
        """Send the rest; the run has failed when this is called while an exception is in flight."""
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            # inside the `finally` of a failed training there is an exception in flight
            run.finish(exit_code=1 if sys.exc_info()[0] else 0)
        except Exception as error:
            self._give_up("finish", error)

    def _choose_mode(self) -> str:
        mode = os.environ.get("WANDB_MODE", "auto") if self._mode == "auto" else self._mode
        if mode == "auto":
            return "online" if wandb_login() else "offline"
        if mode == "online" and not wandb_login():
            # W&B would ask for a key on the terminal
            logger.warning("nobody is logged in to W&B, the run is recorded offline; fix: wandb login")
            return "offline"
        return mode

    def _open(self, run: RunRecord, run_id: str, mode: str) -> Any:
        # W&B's own output folder can pass for an empty package; importing the names finds out
        from wandb import Settings, init, setup

        Path(self._directory).mkdir(parents=True, exist_ok=True)
        setup(settings=Settings(silent=True))  # else init reports its log-in before it knows of `silent`
        opened = init(
            **self._options,
            id=run_id,
            name=self._name or os.environ.get("WANDB_NAME") or Path(run.output_dir).name,
            dir=self._directory,
            mode=mode,
            resume="allow",
            config={**run.config, "run": _circumstances(run)},
            reinit="create_new",  # a notebook's own W&B run stays open
            settings=Settings(
                console="off",
                silent=True,
                save_code=False,
                init_timeout=self._timeout,
                finish_timeout=self._timeout,
            ),
        )
        for axis in AXES:
            opened.define_metric(axis)
        opened.define_metric("*", step_metric="iteration")
        return opened

    def _start_offline(self, run: RunRecord, run_id: str) -> dict:
        import wandb

        try:
            wandb.teardown()  # W&B's service still holds the id of the run that failed to start
            self._run = self._open(run, run_id, "offline")
        except Exception as error:
            return self._give_up("start", error)
        self._announce()
        return {"wandb_id": run_id}

    def _announce(self) -> None:
        if self._run.offline:
            logger.info("W&B records offline; to send it: wandb sync %s", Path(self._run.dir).parent)
        else:
            logger.info("W&B run: %s", self._run.url)

    def _give_up(self, action: str, error: Exception) -> dict:
        self._run = None
        logger.warning("W&B failed to %s, training goes on without it: %s", action, _first_line(error))
        return {}


def _circumstances(run: RunRecord) -> dict[str, Any]:
    names = ("command", "overrides", "output_dir", "git", "versions", "devices", "world_size", "host")
    return {name: getattr(run, name) for name in names}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
