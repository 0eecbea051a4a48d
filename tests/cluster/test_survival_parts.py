"""What surviving is made of, without SLURM: the looked-after process, the failing task's words, the state file."""

import os
import subprocess
import sys
import time

import pytest

from xray_lazy.cluster.failure import explain_failure
from xray_lazy.cluster.job_state import JobState, read_state
from xray_lazy.cluster.requeue import time_limit_warnings
from xray_lazy.cluster.supervised_process import SupervisedProcess
from xray_lazy.cluster.task import Task
from xray_lazy.cluster.task_watch import TaskWatch
from xray_lazy.engine.launch import plan_launch


def python(code):
    return [sys.executable, "-c", code]


def start(code, folder, **options):
    return SupervisedProcess(python(code), folder, os.environ, **options)


@pytest.fixture
def watch(tmp_path):
    """Run a command as a task of a job that has no queue to go back to."""

    def run(code, **task):
        watch = TaskWatch(Task(**{"job_id": "7", **task}), tmp_path / "state.json", max_timeouts=3, signal_delay=60)
        watch.run(python(code), tmp_path, os.environ)

    return run


def test_output_is_passed_on_and_its_end_remembered(tmp_path, capfd):
    process = start("for i in range(100): print('line', i)\nprint('10 %\\r100 %')", tmp_path)
    assert process.wait() == 0
    assert capfd.readouterr().out.startswith("line 0\nline 1\n")
    assert process.tail[-2:] == ["line 99", "100 %"] and len(process.tail) < 50


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
        watch("print('error: no picture 7\\n  in set a\\n  fix: look for it'); exit(2)", rank=1, tasks=2, host="n2")
    state = read_state(tmp_path / "state.json")
    assert ended.value.code == 2
    assert (state.state, state.rank, state.host, state.exit_code) == ("failed", 1, "n2", 2)
    assert (state.reason, state.fix) == ("no picture 7\n  in set a", "look for it")


def test_only_the_task_that_failed_first_is_heard(watch, tmp_path):
    for rank, code in ((1, "import os; os.kill(os.getpid(), 9)"), (0, "exit('connection closed by peer')")):
        with pytest.raises(SystemExit):
            watch(code, rank=rank, tasks=2, start=2)
    assert "killed by SIGKILL" in read_state(tmp_path / "state.json").reason


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
    assert state.state == "stopped" and "told to end" in state.reason


@pytest.mark.parametrize(
    ("code", "tail", "reason", "fix"),
    [
        (2, ["error: old", "  fix: old", "error: the disk is full", "  fix: buy one"], "the disk is full", "buy one"),
        (1, ["Traceback", "ValueError: no"], "ValueError: no", ""),
        (3, [], "it ended with exit code 3", ""),
    ],
)
def test_the_last_words_of_a_process_are_its_reason(code, tail, reason, fix):
    assert explain_failure(code, tail) == (reason, fix)


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
