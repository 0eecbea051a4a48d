"""What feeds training and evaluation. Training batches depend on seed and iteration alone."""

import gc
import logging
import multiprocessing.queues
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.equal_size_batches import EqualSizeBatches
from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.data.mapper import give_dataset, map_record
from xray_lazy.data.memory.batch_memory import PinnableBatch
from xray_lazy.data.memory.packed_records import PackedRecords, packed
from xray_lazy.data.reader_processes import ReaderContext, listen_for_end, signals_held
from xray_lazy.data.sampling import BatchStream, ShuffledEpochs, check_together
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.utils.wording import counted

logger = logging.getLogger(__name__)

# If this many neighbours in the stream can't be read, the fault is not a broken file.
ATTEMPTS = 10
# what torch says of a reading process, or of the thread that takes its batches into pinned memory
SIGNS_OF_WORKER_DEATH = ("DataLoader worker (pid", "Pin memory thread exited", "Communication with the workers is no")
# in errors of torch and of the system
SIGNS_OF_FULL_SHARED_MEMORY = ("shared memory", "No space left on device", "/torch_", "shm")


class TrainLoader:
    """Endless training batches of this process.

    Args:
        dataset: the records.
        mapper: from a record to a sample; it may draw from numpy's global random state. One with a method `mix_from`
            gets the data set by it.
        sampler: the order of the images.
        total_batch_size: images per iteration over all processes.
        num_workers: processes that read for each training process; 0 reads in the training process.
        max_unreadable: a run ends when more images than this could not be read in each process.
        seed: of the augmentation.
        similar_shapes: see `BatchStream`; 1 leaves the sampler's order.

    Augmentation is seeded by the position in the stream, so it is the same whatever the number of workers or
    processes, and after a resume.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        mapper: Callable[[dict], dict],
        sampler: ShuffledEpochs,
        total_batch_size: int,
        num_workers: int = 4,
        max_unreadable: int = 20,
        seed: int = 0,
        similar_shapes: int = 1,
    ):
        world_size = comm.get_world_size()
        if total_batch_size % world_size:
            raise UserError(
                f"a batch of {counted(total_batch_size, 'image')} can't be spread over {world_size} processes",
                f"set dataloader.train.total_batch_size to a multiple of {world_size}",
            )
        check_together(sampler, dataset, total_batch_size // world_size)
        self.dataset = dataset
        self.sampler, self.similar_shapes = sampler, similar_shapes
        self.total_batch_size = total_batch_size
        self.num_workers = num_workers
        self.max_unreadable = max_unreadable
        self.unreadable: set[str] = set()
        give_dataset(mapper, dataset)
        self._samples = _SeededSamples(dataset, mapper, seed)
        self._epoch_length = sampler.epoch_length(dataset)

    @property
    def epoch_length(self) -> int:
        """Images in one epoch of the sampler."""
        return self._epoch_length

    def batches(self, start_iteration: int, images_seen: int | None = None) -> Iterator[list[dict]]:
        """The batches from `start_iteration` on.

        Args:
            start_iteration: of the first batch.
            images_seen: before it, where earlier batches had another size.

        Raises:
            UserError: more than `max_unreadable` images could not be read.
        """
        stream = BatchStream(
            self.sampler,
            self.dataset,
            self.total_batch_size,
            comm.get_rank(),
            comm.get_world_size(),
            start_iteration * self.total_batch_size if images_seen is None else images_seen,
            self.similar_shapes,
        )
        loader = torch.utils.data.DataLoader(
            self._samples,
            batch_sampler=stream,
            collate_fn=PinnableBatch,
            pin_memory=torch.cuda.is_initialized(),  # this process computes on a GPU
            **_workers(self.num_workers),
        )
        for received in _received(loader):
            batch = received.samples
            _raise_errors(batch)
            self._count_unreadable(batch)
            yield batch

    def _count_unreadable(self, batch: list[dict]) -> None:
        for sample in batch:
            for problem in sample.pop("unreadable", ()):
                if problem not in self.unreadable:
                    self.unreadable.add(problem)
                    logger.warning("skipped an unreadable image (%d so far): %s", len(self.unreadable), problem)
        if len(self.unreadable) > self.max_unreadable:
            raise UserError(
                f"{counted(len(self.unreadable), 'image')} of {self.dataset.name} could not be read, "
                f"the last one: {problem}",
                "find them with `tools/dataset.py check`, or raise dataloader.train.max_unreadable",
            )


class TestLoader:
    """One pass over a data set, each image by exactly one process.

    Args:
        dataset: the records.
        mapper: from a record to a sample.
        batch_size: images per forward pass of each process; only those of one size come together, see
            `EqualSizeBatches`.
        num_workers: as `TrainLoader`.
        mixed_sizes: batches of `batch_size` neighbours, whatever their sizes.

    Iterating raises UserError at an image that can't be read: metrics of a part of the set would mislead.
    """

    def __init__(
        self,
        dataset: DetectionDataset | PackedRecords,
        mapper: Callable[[dict], dict],
        batch_size: int = 1,
        num_workers: int = 4,
        mixed_sizes: bool = False,
    ):
        self.dataset, self.mapper = dataset, mapper
        sizes = [None if mixed_sizes else (record["height"], record["width"]) for record in dataset]
        self._loader = torch.utils.data.DataLoader(
            _ReadableSamples(dataset, mapper),
            batch_sampler=EqualSizeBatches(InferenceSampler(len(dataset)), sizes, batch_size),
            collate_fn=_as_list,
            **_workers(num_workers),
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[dict]]:
        for batch in _received(self._loader):
            _raise_errors(batch)
            yield batch


@contextmanager
def explained_worker_death() -> Iterator[None]:
    """Say in words of the config that a reading process died; torch may raise it at any point of the training process.

    Raises:
        RunFailure: a worker of a loader was killed or ended by itself.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_worker_death(error):
            raise
        raise _worker_death(error) from None


def is_worker_death(error: Exception) -> bool:
    """Whether torch says by it that a reading process died; it says so whatever the training process is doing."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS_OF_WORKER_DEATH)


def _received(loader: torch.utils.data.DataLoader) -> Iterator[Any]:
    """The batches of `loader`; one that a worker has sent is fetched from it, which fails where it died in between."""
    try:
        with signals_held():
            batches = iter(loader)
    except OSError as error:  # no room for the queues' semaphores, no more processes or files
        raise _worker_death(error) from None
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (ConnectionError, FileNotFoundError, EOFError) as error:
            time.sleep(1)  # torch's word of it comes by a signal, and must not come after ours, where none expects it
            raise _worker_death(error) from None
        if isinstance(batch, RunFailure):
            raise batch
        yield batch


def _worker_death(error: Exception) -> RunFailure:
    return RunFailure(f"a process that reads images died: {_first_line(error)}", _advice(error))


def _unsent(error: Exception) -> RunFailure:
    return RunFailure(f"a process that reads images can't hand over a batch: {_first_line(error)}", _advice(error))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _advice(error: Exception) -> str:
    text = str(error)
    if isinstance(error, pickle.PicklingError | TypeError | AttributeError):
        return "the mapper returns an object that can't be sent between processes: return arrays, tensors and numbers"
    fewer = "set dataloader.train.num_workers and dataloader.test.num_workers lower"
    if "Too many open files" in text:
        return f"raise the limit with `ulimit -n 65536`, or {fewer}; a training goes on with --resume"
    if any(sign in text for sign in SIGNS_OF_FULL_SHARED_MEMORY):
        return (
            f"the shared memory /dev/shm is most likely full: {fewer}, or give a container more with --shm-size; "
            "a training goes on with --resume"
        )
    return f"the memory most likely ran out: {fewer}; a training goes on with --resume"


class _ReadableSamples(torch.utils.data.Dataset):
    """Samples by index. Errors that are the person's travel as values: a worker turns exceptions into tracebacks."""

    def __init__(self, dataset: DetectionDataset | PackedRecords, mapper: Callable[[dict], dict]):
        self._records = packed(dataset)
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict | UserError:
        try:
            return map_record(self._mapper, self._records[index])
        except UnreadableImage as error:
            return UserError(f"an image can't be read: {error}", "find all of them with `tools/dataset.py check`")
        except UserError as error:
            return error


class _SeededSamples(torch.utils.data.Dataset):
    """Samples by (position, index); an image that can't be read is replaced by its neighbour in the data set."""

    def __init__(self, dataset: DetectionDataset, mapper: Callable[[dict], dict], seed: int):
        self._records = packed(dataset)
        self._mapper = mapper
        self._seed = seed

    def __getitem__(self, place: tuple[int, int]) -> dict | UserError:
        position, index = place
        problems: list[str] = []
        for attempt in range(ATTEMPTS):
            record = self._records[(index + attempt) % len(self._records)]
            try:
                sample = self._map(record, position)
            except UnreadableImage as error:
                problems.append(error.message)
                continue
            except UserError as error:
                return error
            sample["stream_position"] = position
            if problems:
                sample["unreadable"] = problems + sample.get("unreadable", [])
            return sample
        return UserError(
            f"{ATTEMPTS} images in a row could not be read, e.g. {problems[0]}",
            "find them with `tools/dataset.py check`",
        )

    def _map(self, record: dict, position: int) -> dict:
        state = np.random.get_state()
        np.random.seed([self._seed, position % 2**32, position // 2**32])
        try:
            return map_record(self._mapper, record)
        finally:
            np.random.set_state(state)


def _raise_errors(batch: list[dict | UserError]) -> None:
    for sample in batch:
        if isinstance(sample, UserError):
            raise sample


def _as_list(samples: list[dict]) -> list[dict]:
    return samples


def _workers(count: int) -> dict[str, Any]:
    """How a DataLoader starts its workers: processes of a data-parallel run would spawn them, and import all anew."""
    context = ReaderContext() if count else None
    return {"num_workers": count, "worker_init_fn": _start_worker, "multiprocessing_context": context}


def _start_worker(worker: int) -> None:
    import cv2

    # torch's queue would print a traceback, and its reader wait for the batch for ever
    queue: Any = multiprocessing.queues.Queue
    queue._on_queue_feeder_error = _send_error_instead
    sys.excepthook = _print_unless_connection_is_lost
    # looking for garbage writes into every object, which would copy the memory that is shared with the training process
    gc.freeze()
    listen_for_end()
    # workers share the cores: a pool of threads in each would make all of them slower
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _send_error_instead(queue: multiprocessing.queues.Queue, error: Exception, item: object) -> None:
    """Send the error in the place of a batch that a queue's thread could not send."""
    if not isinstance(item, tuple):  # it was pickled already: the pipe is broken, and with it the way to say so
        os._exit(1)
    queue.put((item[0], _unsent(error)))


def _print_unless_connection_is_lost(kind: type[BaseException], error: BaseException, where: Any) -> None:
    """Print a traceback, but for a connection that the training process left in the middle of taking a batch.

    The thread that hands shared memory over would print one when another reader's death ends the run.
    """
    lost = isinstance(error, EOFError | ConnectionError | multiprocessing.AuthenticationError)
    if not lost or threading.current_thread() is threading.main_thread():
        sys.__excepthook__(kind, error, where)
