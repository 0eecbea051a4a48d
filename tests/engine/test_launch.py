"""How many processes a run gets, where they meet, and what is left of their group at the end."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from detectron2.utils import comm

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import run_group, start_group
from tests.patience import PATIENCE, exit_codes
from xray_lazy.command_line import run_tool
from xray_lazy.engine.hooks import stop_signals
from xray_lazy.engine.processes import group_watch, launch, meeting, process_group, step_limit
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.engine.processes.launch_plan import _first_host
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.failure import FAILURE_FILE, Failure
from xray_lazy.utils import interruption
from xray_lazy.utils.interruption import ending_signal


@pytest.fixture
def gpus(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_GPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)

    def set_number(number):
        monkeypatch.setattr(launch, "count_gpus", lambda: number)

    return set_number


def test_the_default_is_one_gpu_where_there_is_one_and_else_the_cpu(gpus):
    gpus(4)
    assert (plan_launch("auto").device, plan_launch("auto").world_size) == ("cuda", 1)
    gpus(0)
    assert (plan_launch("auto").device, plan_launch("auto").world_size) == ("cpu", 1)


def test_several_gpus_have_a_process_each_and_meet_at_any_free_port(gpus):
    gpus(4)
    plan = plan_launch("auto", num_gpus=4)
    assert (plan.device, plan.world_size, plan.dist_url) == ("cuda", 4, "")


def test_processes_on_the_cpu_do_not_take_the_gpus_of_the_machine(gpus):
    gpus(4)
    assert plan_launch("auto", num_processes=2).device == "cpu"


@pytest.mark.parametrize(
    ("there", "arguments", "words"),
    [
        (2, {"device": "auto", "num_gpus": 4}, "4 GPUs asked for, but this machine has 2"),
        (0, {"device": "cuda"}, "this machine has none"),
        (2, {"device": "cpu", "num_gpus": 2}, "train.device is cpu"),
        (2, {"device": "cuda", "num_processes": 2}, "train.device is cuda"),
        (2, {"device": "auto", "num_gpus": 1, "num_processes": 1}, "exclude each other"),
        (2, {"device": "auto", "num_gpus": 2, "num_machines": 2}, "--dist-url"),
        (0, {"device": "cpu", "num_machines": 2, "machine_rank": 5, "dist_url": "tcp://localhost:1"}, "not one of"),
        (
            0,
            {"device": "cpu", "num_machines": 2, "machine_rank": -1, "dist_url": "tcp://localhost:29500"},
            "not one of",
        ),
        (0, {"device": "cpu", "machine_rank": 1}, "not one of 1 machine"),
        (0, {"device": "cpu", "num_machines": 0}, "--num-machines is 0"),
        (0, {"device": "cpu", "num_machines": 2, "dist_url": "localhost:29500"}, "is not tcp://HOST:PORT"),
        (0, {"device": "cpu", "num_machines": 2, "dist_url": "tcp://localhost:99999"}, "is not tcp://HOST:PORT"),
        (0, {"device": "cpu", "num_machines": 2, "dist_url": "tcp://no.such.invalid:29500"}, "can't be found"),
    ],
)
def test_what_does_not_fit_is_an_error(gpus, there, arguments, words):
    gpus(there)
    with pytest.raises(UserError) as error:
        plan_launch(**arguments)
    assert words in str(error.value)


def train_and_list_threads(folder):
    short = ["train.max_iter=2", "~hooks.prediction_pictures", "~hooks.evaluation_media", "~writers.tensorboard"]
    run(RunOptions(CONFIG, [f"train.output_dir={folder}/run", "train.device=cpu", *short]))
    tasks = Path("/proc/self/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    (folder / f"threads_{os.environ['RANK']}.json").write_text(json.dumps(names))


def test_no_thread_of_the_group_outlives_the_training(tmp_path):
    run_group(train_and_list_threads, tmp_path, processes=2, log=tmp_path / "log.txt")
    for rank in range(2):
        names = json.loads((tmp_path / f"threads_{rank}.json").read_text())
        assert names and not [name for name in names if "gloo" in name or "store" in name]


def test_a_process_of_torchrun_joins_its_group(gpus, monkeypatch):
    gpus(0)
    for name, value in {"RUN_ID": "x"}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    for name, value in {
        "WORLD_SIZE": "6",
        "LOCAL_WORLD_SIZE": "3",
        "RANK": "4",
        "LOCAL_RANK": "1",
        "MASTER_PORT": "29400",
    }.items():
        monkeypatch.setenv(name, value)
    plan = plan_launch("cpu")
    assert (plan.world_size, plan.processes, plan.machines, plan.group_rank) == (6, 3, 2, 4)


def set_torchrun(monkeypatch, **numbers):
    usual = {"WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2, "RANK": 3, "LOCAL_RANK": 1, "MASTER_PORT": 29400}
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for name, value in (usual | numbers).items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("there", "numbers", "arguments", "words"),
    [
        (1, {}, {"device": "cuda"}, "2 processes were started on this machine, but this machine has 1 GPU"),
        (2, {}, {"device": "cuda", "num_gpus": 4}, "--num-gpus is 4"),
        (0, {}, {"device": "cpu", "num_processes": 4}, "--num-processes is 4"),
        (0, {}, {"device": "cpu", "num_machines": 3}, "--num-machines is 3"),
        (0, {"LOCAL_RANK": ""}, {"device": "cpu"}, "LOCAL_RANK is ''"),
        (0, {"RANK": 4}, {"device": "cpu"}, "rank 4 of 4"),
    ],
)
def test_what_does_not_fit_the_processes_of_another_launcher_is_an_error(
    gpus, monkeypatch, there, numbers, arguments, words
):
    gpus(there)
    set_torchrun(monkeypatch, **numbers)
    with pytest.raises(UserError) as error:
        plan_launch(**arguments)
    assert words in str(error.value)


def set_step(monkeypatch, **values):
    step = {"SLURM_STEP_NUM_TASKS": 3, "SLURM_STEP_NUM_NODES": 2, "SLURM_STEP_NODELIST": "localhost"}
    step |= {"SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_JOB_ID": 7, "SLURM_STEP_ID": 0}
    for name, value in (step | values).items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("rank", "local_rank", "node", "processes"),
    [(0, 0, 0, 2), (1, 0, 1, 1), (2, 1, 0, 2)],  # cyclic: rank 2 is beside rank 0
)
def test_ranks_of_uneven_and_cyclic_tasks_are_read(gpus, monkeypatch, rank, local_rank, node, processes):
    gpus(0)
    set_step(monkeypatch, SLURM_PROCID=rank, SLURM_LOCALID=local_rank, SLURM_NODEID=node)
    plan = plan_launch("cpu")
    assert (plan.group_rank, plan.local_rank, plan.machine_rank, plan.processes) == (rank, local_rank, node, processes)
    assert plan.world_size == 3


def test_a_task_with_a_gpu_of_its_own_sees_no_other(gpus, monkeypatch):
    gpus(1)
    set_step(monkeypatch, SLURM_PROCID=2, SLURM_LOCALID=1, SLURM_NODEID=0)
    with pytest.raises(UserError, match="2 processes were started"):
        plan_launch("cuda")
    monkeypatch.setenv("SLURM_GPUS_PER_TASK", "1")
    assert plan_launch("cuda").local_rank == 1


def test_a_batch_script_without_srun_is_warned_of(gpus, monkeypatch, caplog):
    gpus(0)
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert plan_launch("cpu").world_size == 1
    assert "given this job 4 tasks, but it trains in 1 process" in caplog.text


def test_who_does_not_come_is_waited_for_with_words_and_with_an_end(monkeypatch, capfd):
    monkeypatch.setattr(meeting, "SAY_SECONDS", 0.1)
    monkeypatch.setattr(meeting, "WAIT_SECONDS", 1)
    store = meeting.open_store("127.0.0.1", 0)
    with pytest.raises(UserError, match="in vain for machine 1 of 2"):
        meeting.meet(store, "machine", 0, 2)
    assert capfd.readouterr().err.count("waiting for machine 1 of 2") == 1
    with pytest.raises(UserError, match="two with the number 0"):
        meeting.meet(store, "machine", 0, 2)
    with pytest.raises(UserError, match="the port is in use"):
        meeting.open_store("127.0.0.1", store.port)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="in vain for the run's first process"):
            meeting.reach_store("127.0.0.1", closed.getsockname()[1])


def work_in_group(folder, fault):
    """Twice, in which rank 1 may fail while rank 0 waits for it; a group that is ended then would wait, too."""
    for number in range(2):
        run_processes(plan_launch("cpu"), fail_or_gather, folder, fault, number)


def fail_or_gather(folder, fault, number):
    if fault:
        torch.distributed.destroy_process_group = lambda: time.sleep(PATIENCE)
    if fault == "hang":
        step_limit.STEP_SECONDS, step_limit.SLOWER_THAN_EVER = 0.5, 0
        with step_limit.step_in_time("iteration", 0):
            time.sleep(0.01)
    with step_limit.step_in_time("iteration", 1):
        if fault and comm.get_rank() == 1:
            if fault == "hang":
                time.sleep(PATIENCE)
            raise {"user": UserError, "foreign": ValueError, "interrupt": KeyboardInterrupt}[fault]("rank 1 fell over")
        comm.synchronize()
    (folder / f"{number}_{comm.get_rank()}_{comm.get_local_rank()}_{comm.get_local_size()}").touch()


def test_a_process_may_run_twice_in_a_group(tmp_path):
    run_group(work_in_group, tmp_path, "", processes=2, log=tmp_path / "log.txt")
    names = {path.name for path in tmp_path.iterdir()} - {"log.txt"}
    assert names == {"0_0_0_2", "0_1_1_2", "1_0_0_2", "1_1_1_2"}


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        ("user", 2, "error: rank 1 fell over"),
        ("foreign", 1, "error: ValueError: rank 1 fell over"),
        ("interrupt", 130, "error: interrupted"),
        ("hang", 1, "error: iteration 1 has not ended in time on rank"),
    ],
)
def test_a_failing_rank_ends_all_with_its_message(tmp_path, fault, code, word):
    log = tmp_path / "log.txt"
    group = start_group(work_in_group, tmp_path, fault, processes=2, log=log)
    assert exit_codes(group, log, seconds=PATIENCE / 2) == [code, code]
    text = log.read_text()
    assert word in text
    assert text.count("error: ") == 1 or fault == "hang"
    assert ("in fail_or_gather" in text) == (fault == "hang")


def hang_under_our_own_launcher(folder):
    fork = multiprocessing.get_context("fork")
    launch.multiprocessing.get_context = lambda kind: fork  # starts in a moment
    run_tool(lambda: run_processes(plan_launch("cpu", num_processes=2), fail_or_gather, folder, "hang", 1))


def test_our_own_launcher_ends_with_what_a_rank_said_of_a_hang(tmp_path):
    log = tmp_path / "log.txt"
    group = start_group(hang_under_our_own_launcher, tmp_path, log=log)
    assert exit_codes(group, log, seconds=PATIENCE / 2) == [1]
    *_, message, fix = log.read_text().splitlines()
    assert message.startswith("error: iteration 1 has not ended in time on rank") and "its stacks say" in message
    assert "look at the rank whose stack is not in a collective" in fix


def join_late(folder):
    """What one process tells the others by the store comes later than the store itself is given to answer."""
    meeting.STORE_TIMEOUT = timedelta(seconds=1)
    join = torch.distributed.init_process_group
    torch.distributed.init_process_group = lambda **given: (join(**given), time.sleep(3 * (given["rank"] == 0)))
    run_processes(plan_launch("cpu"), comm.synchronize)
    (folder / os.environ["RANK"]).touch()


def test_a_process_that_joins_late_is_waited_for(tmp_path):
    run_group(join_late, tmp_path, processes=2, log=tmp_path / "log.txt")
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()


def never_connect():
    process_group.CONNECT_SECONDS, meeting.SAY_LATER_SECONDS = 2, 0.1
    join = torch.distributed.init_process_group
    torch.distributed.init_process_group = lambda **given: (time.sleep(PATIENCE * given["rank"]), join(**given))
    run_processes(plan_launch("cpu"), comm.synchronize)


def test_processes_that_do_not_reach_one_another_say_so_and_end(tmp_path):
    log = tmp_path / "log.txt"
    group = start_group(never_connect, processes=2, log=log)
    assert exit_codes(group, log, seconds=PATIENCE / 2) == [1, 1]
    text = log.read_text()
    assert "waiting until the processes reach one another" in text
    assert "error: the connection of the processes has not ended in time on rank" in text
    assert "GLOO_SOCKET_IFNAME" in text and "in never_connect" in text


NCCL_ERROR = """NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, unhandled {kind} error (run with \
NCCL_DEBUG=INFO for details), NCCL version 2.27.5
nccl{name}: call failed
Last error:
{words}"""


@pytest.mark.parametrize(
    ("name", "words", "fix"),
    [
        ("SystemError", "Error while creating shared memory segment /dev/shm/nccl-a (size 9637888)", "--shm-size"),
        ("UnhandledCudaError", "Cuda failure 217 'peer access is not supported'", "NCCL_P2P_DISABLE=1"),
        ("RemoteError", "socketProgress: Connection closed by remote peer n1<38422>", "it may have been killed"),
    ],
)
def test_an_error_of_nccl_is_told_in_its_own_words(name, words, fix):
    error = torch.distributed.DistBackendError(NCCL_ERROR.format(kind="system", name=name, words=words))
    assert process_group._is_broken_connection(error)
    told = process_group._of_lost_process(error)
    assert "GLOO_SOCKET_IFNAME" in process_group._of_lost_process(RuntimeError("/gloo/ timed out"), False).fix
    assert f"is broken: {words} (NCCL error in" in told.message and "\n" not in told.message and fix in told.fix


@pytest.mark.parametrize(
    ("killed", "words"), [(2, "process 2 ended without a word (by SIGABRT)"), (3, "an assertion on the GPU")]
)
def test_a_process_that_is_killed_for_its_own_error_has_told_it(tmp_path, killed, words):
    Failure("an assertion on the GPU", rank=3).write(tmp_path / FAILURE_FILE)
    assert words in launch._error_of(-signal.SIGABRT, killed, tmp_path / FAILURE_FILE).message


def test_a_process_that_another_launcher_started_is_told_that_it_trains_alone(monkeypatch, caplog):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert plan_launch("cpu").world_size == 1
    assert "this process trains alone" in caplog.text


@pytest.mark.parametrize(("code", "kind"), [(1, RunFailure), (2, UserError)])
def test_a_process_that_ends_with_those_of_another_machine_is_not_taken_for_killed(tmp_path, code, kind):
    error = launch._error_of(code, 1, tmp_path / FAILURE_FILE, machines=2)
    assert type(error) is kind and "failed on another machine" in error.message


def stop_in_group(stopped, is_joining):
    """A rank is stopped while it joins, or outside of any step, as in an evaluation."""
    group_watch.LOOK_SECONDS, group_watch.LOOKS_PER_BEAT, group_watch.SILENT_LOOKS = 0.05, 1, 60
    join = process_group._join
    process_group._join = lambda *args: (is_joining and stop(stopped, args[1]), join(*args))
    run_processes(plan_launch("cpu"), stop_or_gather, stopped)


def stop_or_gather(stopped):
    stop(stopped, comm.get_rank())
    comm.synchronize()


def stop(stopped, rank):
    if rank == stopped:
        os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("is_joining", [False, True])
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_rank_that_is_stopped_ends_the_others(tmp_path, stopped, is_joining):
    log = tmp_path / "log.txt"
    group = start_group(stop_in_group, stopped, is_joining, processes=2, log=log)
    assert exit_codes([group[1 - stopped]], log, seconds=PATIENCE / 2) == [1]
    group[stopped].kill()
    assert log.read_text().count(f"error: rank {stopped} has stood still for 3 seconds") == 1


def test_who_waits_in_a_step_for_a_rank_that_stands_still_names_it_before_the_step_counts_as_hung():
    # how long a step of STEP_SECONDS / SLOWER_THAN_EVER may have lasted when the rank was stopped
    least = step_limit.STEP_SECONDS * (1 - 1 / step_limit.SLOWER_THAN_EVER)
    noticed = (group_watch.SILENT_LOOKS + 2 * group_watch.LOOKS_PER_BEAT) * group_watch.LOOK_SECONDS
    assert noticed < least


class SlowStore:
    """Answers always, after a while; of the other process it hears nothing."""

    def add(self, name, by):
        time.sleep(0.05)
        return 1

    def check(self, names):
        return False

    def set(self, name, value):
        pass


def test_a_store_that_is_slow_is_not_blamed_for_a_rank_that_is_silent(monkeypatch):
    for name, value in {"LOOK_SECONDS": 0.02, "LOOKS_PER_BEAT": 1, "SILENT_LOOKS": 60}.items():
        monkeypatch.setattr(group_watch, name, value)
    ended, told = threading.Event(), []
    monkeypatch.setattr(group_watch, "end_process", lambda code: ended.set())
    group_watch.GroupWatch(SlowStore(), 0, 2, told.append).expect_all()
    assert ended.wait(PATIENCE)
    assert told[0].message.startswith("rank 1 has stood still")


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, (0, 2)), (signal.SIGTERM, (0, 2, 6))])
def test_a_second_signal_ends_the_run_at_once_but_no_sigterm_that_was_handed_on(number, seconds, monkeypatch):
    forward = launch._SignalForwarder([])
    for second in seconds[:-1]:
        monkeypatch.setattr(interruption.time, "monotonic", lambda second=second: second)
        forward(number, None)
    monkeypatch.setattr(interruption.time, "monotonic", lambda: seconds[-1])
    for other in {signal.SIGHUP, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM} - {number}:
        forward(other, None)
    with pytest.raises(KeyboardInterrupt) as raised:
        forward(number, None)
    assert ending_signal(raised.value) == number


@pytest.mark.parametrize(("parent", "is_ended"), [(None, True), (object(), False)])
def test_a_process_that_nobody_watches_ends_by_a_second_sigterm_and_another_saves(parent, is_ended, monkeypatch):
    monkeypatch.setattr(stop_signals.multiprocessing, "parent_process", lambda: parent)
    hook = stop_signals.StopSignals()
    hook.trainer = Mock(checkpointer=Mock(save_dir="nowhere"))
    hook.before_train()
    hook.after_train()
    for second in (0, 2, 6):
        monkeypatch.setattr(interruption.time, "monotonic", lambda second=second: second)
        with pytest.raises(KeyboardInterrupt) if is_ended and second == 6 else contextlib.nullcontext():
            hook._on_signal(signal.SIGTERM, None)
    assert hook.trainer.request_stop.call_count == (2 if is_ended else 3)


def test_a_signal_while_processes_are_waited_for_kills_them():
    process = Mock(join=Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        launch._end([process])
    process.kill.assert_called_once()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[1-2]", "n1"), ("n[07,10-12],m1", "n07"), ("a1,b2", "a1"), ("r[3-4]n[08-09]", "r3n08")],
)
def test_the_first_of_slurms_nodes(nodes, first):
    assert _first_host(nodes) == first


def test_what_is_typed_into_the_shell_of_a_job_is_no_task_of_it(monkeypatch):
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "localhost"}
    step |= {
        "SLURM_PROCID": "0",
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_TASK_PID": str(os.getpid()),
        "SLURM_NODEID": "0",
        "SLURM_LOCALID": "0",
    }
    for name, value in {**step, "SLURM_PTY_PORT": "40000"}.items():
        monkeypatch.setenv(name, value)
    assert plan_launch("cpu").world_size == 4  # srun --pty python tools/lazy_train.py
    monkeypatch.setenv("SLURM_TASK_PID", str(os.getppid()))
    assert plan_launch("cpu").world_size == 1  # srun --pty bash


def stand_ready(folder):
    (Path(folder) / str(os.getpid())).touch()
    signal.pause()


def test_ctrl_c_before_training_has_begun_is_no_success_of_several_processes(tmp_path):
    code = f"""
        import os, signal, threading, time
        from pathlib import Path
        from tests.engine.test_launch import stand_ready
        from xray_lazy.command_line import run_tool
        from xray_lazy.engine.processes.launch import plan_launch, run_processes

        def interrupt():
            while len(list(Path({str(tmp_path)!r}).iterdir())) < 2:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threading.Thread(target=interrupt, daemon=True).start()
            run_tool(lambda: run_processes(plan_launch("cpu", num_processes=2), stand_ready, {str(tmp_path)!r}))
    """
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ended.returncode, ended.stderr) == (130, "error: interrupted\n")
