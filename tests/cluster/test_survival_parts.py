"""What surviving is made of, without SLURM: the looked-after process, the failing task's words, the state file."""

import datetime
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cluster.slurm_doubles import put_into_path
from xray_lazy.cluster import task_watch
from xray_lazy.cluster.job_state import JobState, read_state
from xray_lazy.cluster.requeue import reason_to_leave, requeue, time_limit_warnings
from xray_lazy.cluster.supervised_process import SupervisedProcess
from xray_lazy.cluster.task import Task
from xray_lazy.cluster.task_watch import TaskWatch
from xray_lazy.engine.processes.launch import plan_launch
from xray_lazy.failure import Failure, read_failure

# a process that tells why it fails, before it does so
TOLD = "from xray_lazy.failure import Failure; Failure({!r}, {!r}, 2, rank={}).tell(); exit(2)"


def python(code):
    return [sys.executable, "-c", code]


def start(code, folder, **options):
    return SupervisedProcess(python(code), folder, os.environ, **options)


@pytest.fixture
def watch(tmp_path):
    """Run a command as a task of a job that has no queue to go back to; it may keep checkpoints."""
    last = tmp_path / "last_checkpoint"

    def run(code, **task):
        watch = TaskWatch(
            Task(**{"job_id": "7", **task}),
            tmp_path / "state.json",
            tmp_path / "failure.json",
            max_timeouts=3,
            signal_delay=60,
            newest_checkpoint=lambda: last.read_text() if last.exists() else "",
        )
        watch.run(python(code), tmp_path, os.environ)

    return run


def test_output_is_passed_on_and_its_end_remembered(tmp_path, capfd):
    process = start("for i in range(100): print('line', i)\nprint('10 %\\r100 %')", tmp_path)
    assert process.wait() == 0
    assert capfd.readouterr().out.startswith("line 0\nline 1\n")
    assert process.tail[-2:] == ["line 99", "100 %"] and len(process.tail) < 100


def test_a_process_that_does_not_listen_yet_is_asked_again(tmp_path):
    late = "import signal, time; time.sleep(1.5)\nsignal.signal(signal.SIGUSR2, lambda *_: exit(5)); time.sleep(90)"
    process = start(late, tmp_path)
    process.ask_to_stop()
    assert process.wait(60) == 5


def test_a_process_whose_children_live_on_has_ended(tmp_path):
    process = start("import subprocess; subprocess.Popen(['sleep', '60']); print('bye')", tmp_path)
    begin = time.monotonic()
    assert process.wait(50) == 0 and process.tail == ["bye"]
    assert time.monotonic() - begin < 50


def test_a_process_does_not_outlive_the_one_that_looks_after_it(tmp_path):
    code = """
import os, sys
from xray_lazy.cluster.supervised_process import SupervisedProcess
SupervisedProcess([sys.executable, "-c", "import os, time; print(os.getpid()); time.sleep(60)"], ".", os.environ).wait()
"""
    outer = subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True)
    inner = int(outer.stdout.readline())
    outer.kill()
    outer.wait()
    deadline = time.monotonic() + 50
    while os.path.exists(f"/proc/{inner}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{inner}")


def test_a_task_that_succeeds_is_finished(watch, tmp_path):
    watch("print('trained')")
    assert read_state(tmp_path / "state.json").state == "finished"


def test_an_error_is_kept_with_its_fix_and_ends_the_task_with_its_code(watch, tmp_path):
    with pytest.raises(SystemExit) as ended:
        watch(TOLD.format("no image 7\n  in set a", "look for it", 1), rank=1, tasks=2, host="n2")
    state = read_state(tmp_path / "state.json")
    assert ended.value.code == 2
    assert (state.state, state.rank, state.host, state.exit_code) == ("failed", 1, "n2", 2)
    assert (state.reason, state.fix) == ("no image 7\n  in set a", "look for it")


def test_only_the_task_that_failed_first_is_heard(watch, tmp_path):
    for rank, code in ((1, "import os; os.kill(os.getpid(), 9)"), (0, "exit('connection closed by peer')")):
        with pytest.raises(SystemExit):
            watch(code, rank=rank, tasks=2, start=2)
    assert "killed by SIGKILL" in read_state(tmp_path / "state.json").reason


def test_a_task_that_ends_without_a_word_lets_the_other_tell_why(watch, tmp_path):
    tells = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}]); sys.exit(2)"
    other = (
        "import time; time.sleep(1); from xray_lazy.cluster.job_state import JobState; "
        "JobState('7', 'failed', 'no image 7', rank=1, starts=1).write('state.json')"
    )
    with pytest.raises(SystemExit):
        watch(tells.format(other), rank=0, tasks=2)
    state = read_state(tmp_path / "state.json")
    assert (state.rank, state.reason) == (1, "no image 7")


def test_a_task_whose_connection_broke_does_not_speak_for_the_one_that_failed(watch, tmp_path):
    first = Failure("no image 7", rank=1, start="7.1")
    assert first.write(tmp_path / "failure.json")
    task_watch.SILENT_SECONDS, before = 0.5, task_watch.SILENT_SECONDS
    try:
        with pytest.raises(SystemExit):
            watch(TOLD.format("connection closed by peer", "", 0), rank=0, tasks=2)
    finally:
        task_watch.SILENT_SECONDS = before
    assert read_failure(tmp_path / "failure.json") == first
    assert read_state(tmp_path / "state.json").reason == "no image 7"  # whose own watch is gone


def test_what_an_earlier_start_said_is_no_reason_of_this_one(watch, tmp_path):
    Failure("no image 7", start="7.1").write(tmp_path / "failure.json")
    with pytest.raises(SystemExit):
        watch("exit(3)", start=2)
    assert read_state(tmp_path / "state.json").reason == "its process ended with exit code 3"
    assert read_failure(tmp_path / "failure.json").start == "7.2"


def test_a_task_that_succeeds_does_not_speak_for_one_that_failed_or_still_runs(watch, tmp_path):
    watch("", rank=1, tasks=2)
    assert read_state(tmp_path / "state.json") is None
    failing = "from xray_lazy.cluster.job_state import JobState; JobState('7', 'failed').write('state.json')"
    watch(failing, tasks=2)
    assert read_state(tmp_path / "state.json").state == "failed"


def test_a_new_start_forgets_the_failure_and_keeps_the_counts(watch, tmp_path):
    JobState("7", "failed", "a reason", starts=1, timeouts=2, preemptions=4).write(tmp_path / "state.json")
    watch("", start=2)
    state = read_state(tmp_path / "state.json")
    assert (state.state, state.reason, state.starts) == ("finished", "", 2)
    assert (state.timeouts, state.timeouts_left, state.preemptions) == (2, 1, 4)
    watch("", job_id="8")
    assert read_state(tmp_path / "state.json").timeouts == 0


def test_a_task_that_is_told_to_end_lets_its_process_leave_in_order(watch, tmp_path):
    code = "import os, signal, time\nsignal.signal(signal.SIGUSR2, lambda *_: exit(print('saved')))\n"
    with pytest.raises(SystemExit):
        watch(code + "os.kill(os.getppid(), signal.SIGTERM); time.sleep(30)")
    state = read_state(tmp_path / "state.json")
    assert state.state == "stopped" and "as when it is cancelled" in state.reason


def test_a_run_that_ended_early_for_the_sake_of_another_task_is_not_finished(watch, tmp_path):
    with pytest.raises(SystemExit):
        watch("open('last_checkpoint', 'w').write('model_0000004.pth')", tasks=2)
    assert read_state(tmp_path / "state.json").state == "stopped"
    watch("open('last_checkpoint', 'w').write('model_final.pth')", tasks=2)
    assert read_state(tmp_path / "state.json").state == "finished"


def test_a_complete_run_that_was_given_more_to_do_and_could_not_save_is_not_finished(watch, tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    with pytest.raises(SystemExit):
        watch("import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(1); exit(1)")
    assert read_state(tmp_path / "state.json").state == "stopped"


SCONTROL = """
case "$1 $SLURM_TIME_FORMAT" in
  requeue*) touch requeued ;;
  *standard) echo JobState=RUNNING StartTime={start} EndTime={end} PreemptTime={preempted} ;;
  *) echo JobState=RUNNING StartTime=10 Nov EndTime=Today PreemptTime=None ;;
esac
"""


def tell_job(folder, monkeypatch, minutes_left, preempted="None"):
    """Have `scontrol` tell of a job that runs."""
    start = datetime.datetime.now().replace(microsecond=0)
    end = start + datetime.timedelta(minutes=minutes_left)
    script = SCONTROL.format(start=start.isoformat(), end=end.isoformat(), preempted=preempted)
    put_into_path(folder / "bin", monkeypatch, scontrol=script)


def test_times_are_understood_whatever_format_a_person_has_chosen_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    tell_job(tmp_path, monkeypatch, minutes_left=2)
    assert reason_to_leave("7", signal_delay=90) == "time limit"
    tell_job(tmp_path, monkeypatch, minutes_left=60)
    assert reason_to_leave("7", signal_delay=90) == "signal"


def test_where_slurm_is_out_of_reach_of_a_job_its_reason_is_kept(watch, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # a container without SLURM's commands
    monkeypatch.setattr(task_watch, "REQUEUE_SECONDS", 0)
    assert reason_to_leave("7", 90) == "signal" and "scontrol" in requeue("7", attempts=1)
    with pytest.raises(SystemExit):
        watch("import os, signal; os.kill(os.getppid(), signal.SIGUSR2)", on_slurm=True)
    state = read_state(tmp_path / "state.json")
    assert state.state == "stopped" and "SLURM does not requeue it" in state.reason


def test_a_job_that_goes_on_at_another_time_is_at_no_time_told_to_have_ended(watch, tmp_path, monkeypatch):
    tell_job(tmp_path, monkeypatch, 60, preempted="2999-01-01T00:00:00")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(task_watch, "REQUEUE_SECONDS", 0)
    leave = "import os, signal, shutil, time\nsignal.signal(signal.SIGUSR2, lambda *_: None)\n"
    with pytest.raises(SystemExit):
        watch(
            leave + "os.kill(os.getppid(), signal.SIGTERM); time.sleep(4); shutil.copy('state.json', 'seen.json')",
            on_slurm=True,
        )
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert (tmp_path / "requeued").exists()
    assert (read_state(tmp_path / "seen.json").state, read_state(tmp_path / "state.json").state) == (
        "running",
        "requeued",
    )


def test_a_state_that_is_not_there_or_damaged_is_none(tmp_path):
    assert read_state(tmp_path) is None
    (tmp_path / "job_state.json").write_text("[")
    assert read_state(tmp_path) is None


def test_short_time_limits_are_warned_of():
    assert time_limit_warnings(24 * 60, 120) == []
    assert len(time_limit_warnings(9, 90)) == 1
    assert "90 s before its limit of 120 s" in time_limit_warnings(2, 90)[0]


def test_local_tasks_find_each_other_as_those_of_torchrun_do(monkeypatch):
    for name, value in Task("4711", rank=1, tasks=2).group_environment().items():
        monkeypatch.setenv(name, value)
    plan = plan_launch("cpu")
    assert (plan.world_size, plan.group_rank, plan.processes) == (2, 1, 2)
    assert Task("4711", tasks=2, on_slurm=True).group_environment() == {}
