"""Numbers of a training step that are on the device: the host reads them when it needs them, not when they come up."""

from collections.abc import Iterable
from typing import Any

import torch
from detectron2.utils.events import EventStorage, get_event_storage


class NumbersOnTheWay:
    """Numbers `(N,)` that a GPU copies to the host when it has computed them; only `tolist` waits for that."""

    def __init__(self, numbers: torch.Tensor):
        self._host = numbers.detach().to("cpu", non_blocking=True)
        self._copied = None
        if numbers.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def tolist(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None
        return self._host.tolist()


class StepStorage(EventStorage):
    """detectron2's event storage, which puts numbers that are on the device when somebody reads it."""

    def __init__(self, start_iter: int = 0):
        super().__init__(start_iter)
        self._new: dict[str, torch.Tensor] = {}
        self._sent: list[tuple[int, list[str], NumbersOnTheWay]] = []

    def put_later(self, numbers: dict[str, torch.Tensor]) -> None:
        """Put scalars on the device, of the present iteration and under the present `name_scope`."""
        self._new |= {self._current_prefix + name: number for name, number in numbers.items()}

    def send(self) -> None:
        """Let the device copy what is new to the host; all of it is of the present iteration."""
        if self._new:
            numbers = torch.stack([number.detach().float() for number in self._new.values()])
            self._sent.append((self.iter, list(self._new), NumbersOnTheWay(numbers)))
            self._new = {}

    def settle(self, before: int | None = None) -> None:
        """Put what is not put yet, of iterations `before` this one if given."""
        if before is None:
            self.send()
        while self._sent and (before is None or self._sent[0][0] < before):
            iteration, names, numbers = self._sent.pop(0)
            # a number that is not finite is one that the step had nothing for
            values = {name: value for name, value in zip(names, numbers.tolist(), strict=True) if value == value}
            prefix, self._current_prefix = self._current_prefix, ""  # names have theirs already
            self.put_scalars(cur_iter=iteration, **values)
            self._current_prefix = prefix

    def is_on_the_way(self, names: Iterable[str]) -> bool:
        """Whether one of these scalars is not put yet."""
        return not {*self._new, *(name for _, sent, _ in self._sent for name in sent)}.isdisjoint(names)

    def latest(self) -> dict[str, tuple[float, int]]:
        self.settle()
        return super().latest()

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        self.settle()
        return super().latest_with_smoothing_hint(window_size)

    def history(self, name: str) -> Any:
        self.settle()
        return super().history(name)

    def histories(self) -> dict[str, Any]:
        self.settle()
        return super().histories()


def latest_with(storage: EventStorage, names: Iterable[str]) -> dict[str, tuple[float, int]]:
    """`storage.latest()` as it is, if none of `names` has to be waited for."""
    if isinstance(storage, StepStorage) and not storage.is_on_the_way(names):
        return EventStorage.latest(storage)
    return storage.latest()


def put_numbers(**numbers: torch.Tensor) -> None:
    """Put scalars of this step that are on the device; NaN is left out."""
    storage = get_event_storage()
    if isinstance(storage, StepStorage):
        storage.put_later(numbers)
    else:
        storage.put_scalars(**{name: value for name, number in numbers.items() if (value := float(number)) == value})
