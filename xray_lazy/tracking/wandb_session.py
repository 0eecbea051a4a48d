"""The W&B run behind the writer: online or offline, resumed by its id, and never a reason for training to stop."""

import logging
import os
import secrets
import shlex
import shutil
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_lazy.env import wandb_login
from xray_lazy.errors import UserError
from xray_lazy.tracking.background import Background
from xray_lazy.tracking.logged_names import AXES
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_files import Part, find_parts, wait_until_left
from xray_lazy.tracking.wandb_resume import continue_history
from xray_lazy.utils.wording import tool_command

logger = logging.getLogger(__name__)

MODES = ("auto", "online", "offline", "disabled")
MODES_OF_WANDB = ("", "shared", "run", "dryrun")  # what its variable may have besides, by W&B itself
ANSWER_SECONDS = 15  # at most, until the server answers at all


class WandbSession:
    """One start of a W&B run; any failure of W&B's is one warning, and nothing is logged after it.

    A thread talks to W&B, whose calls wait for its service process, and that for the disk.

    Args:
        directory: W&B puts its files into `<directory>/wandb`.
        name: of the run; default the name of the output folder.
        mode: "online", "offline", "disabled"; "auto" obeys `WANDB_MODE`, else is online where someone is logged in and
            offline elsewhere.
        timeout: seconds that training waits at most for W&B to start, and to send the rest at the end.
        options: further arguments of `wandb.init`: project, entity, group, tags, notes, job_type.
        axis: the logged value that W&B draws all others over. It is not W&B's own step, which only grows and would drop
            what a resumed run does again.

    Raises:
        UserError: there is no such mode or axis.
    """

    def __init__(
        self,
        directory: str,
        name: str | None,
        mode: str,
        timeout: float,
        options: Mapping[str, Any],
        axis: str = "iteration",
    ):
        if mode not in MODES:
            raise UserError(f"the W&B mode is {mode!r}", f"set mode to one of {', '.join(MODES)}")
        if mode == "auto" and os.environ.get("WANDB_MODE", "auto") not in (*MODES, *MODES_OF_WANDB):
            raise UserError(
                f"WANDB_MODE is {os.environ['WANDB_MODE']!r}", f"unset it, or set it to one of {', '.join(MODES[1:])}"
            )
        if axis not in AXES:
            raise UserError(f"W&B's axis is {axis!r}", f"set axis to one of {', '.join(AXES)}")
        self._axis = axis
        self._directory, self._name, self._mode, self._timeout = directory, name, mode, timeout
        self._options = {name: value for name, value in options.items() if value}  # else W&B asks its environment
        self._run = None
        self._background: Background | None = None
        self._is_open = self._is_preempting = self._has_lost_service = self._only_missing = self._has_file = False
        self._log_error: BaseException | None = None  # of W&B's own log, beside its other files
        self._one_warning = threading.Lock()

    @property
    def directory(self) -> str:
        """W&B's files are in `<directory>/wandb`."""
        return self._directory

    @property
    def is_open(self) -> bool:
        """Whether what is logged goes anywhere."""
        return self._is_open

    @property
    def is_offline(self) -> bool:
        """Whether W&B records on disk only; of no meaning before the start."""
        return self._run is None or self._run.offline

    def start(self, run: RunRecord, only_missing: bool = False) -> dict:
        """Open the W&B run, the same one when `run` is resumed; returns its id.

        What an earlier start has logged of the iterations that are done again is not logged twice, and what of it has
        not reached W&B is sent again.

        Args:
            run: what starts.
            only_missing: nothing new is going to be logged; where it can't be sent, nothing is recorded either.
        """
        self._only_missing = only_missing
        mode = self._choose_mode()
        if mode == "disabled":
            return {}
        deadline = time.monotonic() + self._timeout
        try:
            # W&B's own output folder can pass for an empty package; importing the names finds out
            from wandb import init  # noqa: F401
        except ImportError:
            logger.warning("W&B is not installed, nothing is logged there; fix: pip install wandb")
            return {}
        # a sweep's agent says by the environment which run this is
        run_id = os.environ.get("WANDB_RUN_ID") or run.wandb_id or secrets.token_hex(4)
        self._is_open = True
        self._background = Background("W&B")
        self._background.do(lambda: self._attempt("start", lambda _: self._begin(run, run_id, mode)))
        # what is logged while W&B is still at it waits in the thread
        self._background.wait(deadline - time.monotonic())
        return {"wandb_id": run_id} if self._is_open else {}

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Put values into the run's summary, which has the last ones of the history by itself."""
        self.use("summarize", lambda run: run.summary.update(dict(values)))

    def log(self, values: Mapping[str, Any]) -> None:
        """Add one row to the run's history."""
        self.use("log", lambda run: run.log(dict(values)))

    def use(self, action: str, work: Callable[[Any], None]) -> None:
        """Let `work` do something with W&B's run object, soon and in a thread; `action` names it where it fails."""
        if self._is_open and not self._background.do(lambda: self._attempt(action, work)):
            self._give_up(action, TimeoutError("it has not taken anything for long"))

    def wait(self, seconds: float) -> bool:
        """Wait at most that many seconds until all that `use` was given is done; whether it is."""
        return self._background is None or self._background.wait(seconds)

    def mark_preempting(self) -> None:
        """Say that this run leaves now to be resumed: closing it makes it "preempted", not "finished".

        Not that of a sweep at W&B: it puts preempted trials back into its queue, also those that it has stopped itself.
        """
        if os.environ.get("WANDB_SWEEP_ID"):
            return
        self._is_preempting = True
        self.use("mark the run as preempting", lambda run: run.mark_preempting())

    def close(self, exit_code: int | None = None) -> bool:
        """Send the rest; returns whether all has been sent, or recorded offline.

        Args:
            exit_code: of the run; by default it has failed when this is called while an exception is in flight.
        """
        if self._background is None:
            return False
        if exit_code is None:
            # inside the `finally` of a failed training there is an exception in flight
            exit_code = _exit_code(sys.exc_info()[1]) or int(self._is_preempting)
        background, self._background = self._background, None
        background.do(lambda: self._finish(exit_code))
        if not background.wait(self._timeout):
            self._give_up("finish", TimeoutError(f"it took more than {self._timeout:g} s"))
            _end_service()
        elif self._has_lost_service:
            _end_service()
        was_open, self._is_open = self._is_open, False
        background.close()
        return was_open

    def _choose_mode(self) -> str:
        mode = os.environ.get("WANDB_MODE", "auto") if self._mode == "auto" else self._mode
        if mode == "auto":
            return "online" if wandb_login() else "offline"
        if mode == "online" and not wandb_login():
            # W&B would ask for a key on the terminal
            logger.warning("nobody is logged in to W&B, the run is recorded offline; fix: wandb login")
            return "offline"
        return mode

    def _attempt(self, action: str, work: Callable[[Any], None]) -> None:
        """In the thread: after the first failure, nothing more."""
        if self._is_open:
            try:
                work(self._run)
                self._raise_if_not_recorded()
            except Exception as error:
                self._give_up(action, error)

    def _raise_if_not_recorded(self) -> None:
        """In the thread: W&B's service writes on into a deleted file, and leaves out what a full disk doesn't take.

        Raises:
            OSError: what is recorded offline gets lost.
        """
        if self._run is None or not self._run.offline:
            return
        had_file, self._has_file = self._has_file, os.path.exists(self._run.settings.sync_file)
        if not self._has_file and (had_file or self._background is None):  # at the end it has to be there
            raise FileNotFoundError(f"{os.path.dirname(self._run.settings.sync_file)} was deleted")
        if self._log_error is not None:
            raise self._log_error

    def _begin(self, run: RunRecord, run_id: str, mode: str) -> None:
        """In the thread: open the run, offline where online fails."""
        import wandb

        wandb.setup(settings=wandb.Settings(silent=True))  # else init reports its log-in before it knows of `silent`
        earlier = find_parts(self._directory, run_id)
        is_waiting = any(part.is_offline and not part.is_sent for part in earlier)
        if mode == "online" and is_waiting and not self._only_missing:
            # sent after what comes now, it would follow it in the history
            logger.info("the run goes on offline, for its earlier part has not been sent yet")
            mode = "offline"
        if not wait_until_left(earlier, self._timeout / 2) and mode == "online":
            if self._only_missing:
                raise TimeoutError("W&B's process of the run's earlier start has not ended")
            logger.warning("W&B's process of the run's earlier start has not ended, the run goes on offline")
            mode = "offline"
        if mode == "online":
            has_answered = False
            try:
                check_server(wandb.setup().settings.base_url, self._timeout)
                has_answered = True
                self._run = self._open(run, run_id, mode, earlier)
            except Exception as error:
                if has_answered:  # W&B's service still holds the id of the run that failed to start, or has ended
                    _end_service() if _is_loss_of_service(error) else wandb.teardown()
                if self._only_missing:
                    raise
                logger.warning("W&B can't be reached, the run is recorded offline: %s", reason(error))
        if self._run is None:
            self._run = self._open(run, run_id, "offline", earlier)
        self._announce()

    def _open(self, run: RunRecord, run_id: str, mode: str, earlier: Sequence[Part]) -> Any:
        from wandb import Settings, init

        Path(self._directory).mkdir(parents=True, exist_ok=True)
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
                finish_timeout=0.8 * self._timeout,
                finish_timeout_raises=True,
                # what a killed process may lose of the rows; W&B's own is 15 s
                x_transaction_log_flush_interval=0.1,
                # W&B takes command and remote as they are; what it would add to a command with a secret is in `config`
                git_remote_url=(run.git or {}).get("remote"),
                git_commit=(run.git or {}).get("commit"),
                x_disable_meta=run.command != shlex.join(sys.argv),
            ),
        )
        for handler in logging.getLogger("wandb").handlers:
            if getattr(handler, "baseFilename", "") == os.path.abspath(opened.settings.log_user):
                # else there is a traceback for each line that a full disk doesn't take
                handler.handleError = self._note_log_error
        if run.git and run.git.get("diff"):
            copy = shutil.copy(Path(run.output_dir) / run.git["diff"], opened.dir)
            opened.save(copy, base_path=opened.dir, policy="now")
        for axis in AXES:
            opened.define_metric(axis)
        opened.define_metric("*", step_metric=self._axis)
        return continue_history(opened, earlier, run.start_iteration)

    def _finish(self, exit_code: int) -> None:
        """In the thread: also where logging has failed, so that the run doesn't seem to go on."""
        if self._run is not None:
            try:
                self._run.finish(exit_code=exit_code)
                self._raise_if_not_recorded()
                if not self._run.offline:  # this part, and with it what was missing of earlier ones
                    for part in find_parts(self._directory, self._run.id):
                        if part.is_begun or not part.is_offline:
                            part.mark_sent()
            except Exception as error:
                self._give_up("finish", error)

    def _note_log_error(self, _: logging.LogRecord) -> None:
        self._log_error = sys.exc_info()[1]

    def _announce(self) -> None:
        if self._run.offline:
            logger.info("W&B records offline; to send it: %s", self._command_to_send())
        else:
            logger.info("W&B run: %s", self._run.url)

    def _give_up(self, action: str, error: Exception) -> None:
        self._has_lost_service |= _is_loss_of_service(error)
        with self._one_warning:
            is_first, self._is_open = self._is_open, False
        if is_first:
            without = "" if self._only_missing else ", training goes on without it"
            logger.warning("W&B failed to %s%s: %s%s", action, without, reason(error), self._repair())

    def _repair(self) -> str:
        if self._run is None or (self._run.offline and not self._has_file):
            return ""
        return f"; fix, once the run has ended: {self._command_to_send()}"

    def _command_to_send(self) -> str:
        return tool_command("sync", self._directory)


def _circumstances(run: RunRecord) -> dict[str, Any]:
    names = ("command", "overrides", "output_dir", "git", "versions", "devices", "machine", "world_size", "host")
    names += ("datasets",)
    return {name: getattr(run, name) for name in names}


def reason(error: Exception) -> str:
    """A failure for a message: its first line, or the three of a wrong setting, whose first one doesn't say which."""
    lines = str(error).splitlines() or [type(error).__name__]
    count = 3 if "validation error" in lines[0] else 1
    return " ".join(map(str.strip, lines[:count])).partition(" [type=")[0]


def _exit_code(error: BaseException | None) -> int:
    """As W&B has them: 0 is "finished", 255 "killed", others "failed"."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return 0
    return 255 if isinstance(error, KeyboardInterrupt) else 1


def check_server(url: str, timeout: float) -> None:
    """Find out whether W&B's server answers, because W&B keeps the id of a run whose start has failed.

    Args:
        url: of the server.
        timeout: seconds for all that is to be done there, of which this may take a half, and `ANSWER_SECONDS` at most.

    Raises:
        OSError: it doesn't, or with an error of its own.
    """
    try:
        urllib.request.urlopen(url, timeout=min(timeout / 2, ANSWER_SECONDS)).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
    except urllib.error.URLError as error:
        # it answers; whether it can be trusted is for W&B to find out, by certificates that Python may not have
        if not isinstance(error.reason, ssl.SSLError):
            raise


def _is_loss_of_service(error: Exception) -> bool:
    """Whether W&B's own process is gone, in the words of its package; the loss of a server is that process's matter."""
    return isinstance(error, ConnectionError) or type(error).__name__ in ("HandleAbandonedError", "MailboxClosedError")


def _end_service() -> None:
    """Kill W&B's service process; a next run gets another one.

    W&B would wait for ever for the end of one that is stuck as Python ends, and print a traceback for a dead one.
    """
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib.service import service_token

    try:
        wandb = wandb_setup.singleton()
        connection, wandb._connection = wandb._connection, None
        connection._cleanup()
        connection._proc._process.kill()
        service_token.clear_service_in_env()
    except AttributeError as error:
        logger.debug("W&B's service is not where it was: %s", error)
