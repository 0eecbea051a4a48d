"""A run in this process leaves its log file open until the process ends, but the folder goes with its test."""

import logging
from collections.abc import Iterator
from logging.handlers import WatchedFileHandler

import pytest

LOGGED = ("xray_lazy", "detectron2", "fvcore")


@pytest.fixture(autouse=True)
def close_log_files() -> Iterator[None]:
    yield
    for logger in map(logging.getLogger, LOGGED):
        for handler in [handler for handler in logger.handlers if isinstance(handler, WatchedFileHandler)]:
            logger.removeHandler(handler)
            handler.close()
