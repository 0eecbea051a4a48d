"""Processes that read images and die: one message in words of the config, whichever way torch notices."""

import errno
import mmap
import multiprocessing
import os
import signal
import subprocess
import threading
import time

import pytest
import torch

from tests.data.coco_sets import reference, write_set
from tests.patience import PATIENCE
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.loaders import TestLoader as EvaluationLoader  # a name with Test would be collected
from xray_lazy.data.loaders import TrainLoader, explained_worker_death
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.sampling import ShuffledEpochs
from xray_lazy.errors import RunFailure


class MapperWithAnEnd(DetectionMapper):
    """Does `end` where it meets image 5."""

    def __init__(self, end):
        super().__init__([])
        self.end = end

    def __call__(self, record):
        if record["file_name"].endswith("bag_5.png"):
            self.end()
        return super().__call__(record)


def read_an_epoch(folder, end):
    write_set(folder, count=8)
    sampler = ShuffledEpochs(seed=0, shuffle=False)
    loader = TrainLoader(load_datasets(reference(folder)), MapperWithAnEnd(end), sampler, 2, num_workers=1)
    with explained_worker_death():
        for batch, _ in zip(loader.batches(0), range(8), strict=False):
            assert len(batch) == 2
            time.sleep(0.1)  # a training step, in which the worker reads ahead


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def fall_over():
    raise RuntimeError("a fault in somebody's augmentation")


def miss_a_file():
    raise FileNotFoundError("weights of somebody's augmentation")


def test_a_killed_worker_is_explained(tmp_path):
    with pytest.raises(RunFailure) as error:
        read_an_epoch(tmp_path, be_killed)
    assert "a process that reads images died" in error.value.message
    assert "memory" in error.value.fix and "dataloader.train.num_workers" in error.value.fix


@pytest.mark.parametrize(("end", "kind"), [(fall_over, RuntimeError), (miss_a_file, FileNotFoundError)])
def test_an_exception_of_the_mapper_in_a_worker_names_the_image_and_is_not_taken_for_its_death(tmp_path, end, kind):
    with pytest.raises(RunFailure, match=rf"/bag_\d.png can't be prepared.*{kind.__name__}: .*somebody's augmentation"):
        read_an_epoch(tmp_path, end)


class MapperWithAnExtra(DetectionMapper):
    """Adds what `make()` makes to image 5, which a queue's own thread then has to send."""

    def __init__(self, make):
        super().__init__([])
        self.make = make

    def __call__(self, record):
        sample = super().__call__(record)
        return sample | ({"extra": self.make()} if record["file_name"].endswith("bag_5.png") else {})


def more_than_the_shared_memory():
    there = os.statvfs("/dev/shm")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE: it is never touched, and takes no memory
    memory = mmap.mmap(-1, there.f_blocks * there.f_frsize + 2**20, flags=flags)
    return torch.frombuffer(memory, dtype=torch.uint8)


def a_lock():
    return threading.Lock()


class OpensAFileToBeSent:
    def __reduce__(self):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


UNSENT = [
    (more_than_the_shared_memory, "--shm-size"),
    (a_lock, "can't be sent between processes"),
    (OpensAFileToBeSent, "ulimit"),
]


@pytest.mark.parametrize("loader_class", [TrainLoader, EvaluationLoader])
@pytest.mark.parametrize(("make", "advice"), UNSENT)
def test_a_batch_that_can_not_be_handed_over_ends_the_run_with_the_reason(tmp_path, loader_class, make, advice):
    write_set(tmp_path, count=8)
    dataset, mapper = load_datasets(reference(tmp_path)), MapperWithAnExtra(make)
    if loader_class is TrainLoader:
        batches = TrainLoader(dataset, mapper, ShuffledEpochs(seed=0, shuffle=False), 2, num_workers=1).batches(0)
    else:
        batches = EvaluationLoader(dataset, mapper, batch_size=2, num_workers=1)
    with pytest.raises(RunFailure) as error:
        for batch, _ in zip(batches, range(8), strict=False):
            assert len(batch) <= 2
    assert "can't hand over a batch" in error.value.message and advice in error.value.fix


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "the memory most likely ran out"),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            "--shm-size",
        ),
        ("Pin memory thread exited unexpectedly", "the memory most likely ran out"),
        ("Too many open files. Communication with the workers is no longer possible. Please increase", "ulimit"),
    ],
)
def test_each_word_of_torch_on_readers_gets_its_advice(word, advice):
    with pytest.raises(RunFailure) as error, explained_worker_death():
        raise RuntimeError(word)
    assert advice in error.value.fix


@pytest.mark.parametrize("threads", [1, 3])  # torch starts as many in each process that is forked
def test_a_signal_of_a_batch_system_to_all_processes_ends_no_reader(tmp_path, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    write_set(tmp_path, count=8)
    sampler = ShuffledEpochs(seed=0, shuffle=False)
    batches = TrainLoader(load_datasets(reference(tmp_path)), DetectionMapper([]), sampler, 2, num_workers=2).batches(0)
    assert len([next(batches), next(batches)]) == 2  # one of each: both have started
    readers = multiprocessing.active_children()
    for reader in readers:
        subprocess.run(["kill", str(reader.pid)], check=True)
    assert [len(batch) for batch, _ in zip(batches, range(20), strict=False)] == [2] * 20
    assert all(reader.is_alive() for reader in readers)
    os.kill(readers[0].pid, signal.SIGSTOP)  # so that all that is sent is still to come
    subprocess.run(["kill", str(readers[0].pid)], check=True)
    readers[0].terminate()
    os.kill(readers[0].pid, signal.SIGCONT)
    readers[0].join(PATIENCE)
    assert readers[0].exitcode == 0
    torch.set_num_threads(before)
