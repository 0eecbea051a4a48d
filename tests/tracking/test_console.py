"""The progress line."""

import logging
import re

from detectron2.utils.events import EventStorage

from xray_lazy.tracking.console import ConsoleWriter


def put_step(storage: EventStorage) -> None:
    storage.put_scalars(total_loss=1.25, loss_cls=0.5, loss_mask=0.75, time=0.25, data_time=0.01, images_per_second=32)
    storage.put_scalars(smoothing_hint=False, lr=0.0008579, epoch=2.5, eta_seconds=3725.0)


def test_a_line_tells_where_the_run_is_how_good_how_fast_and_how_long(caplog):
    caplog.set_level(logging.INFO)
    with EventStorage(499) as storage:
        put_step(storage)
        storage.put_scalars(smoothing_hint=False, **{"bbox/AP": 36.84, "segm/AP": 47.8, "bbox/AP-gun": 50.0})
        storage.put_scalar("max_memory_mb", 2048.0, smoothing_hint=False)
        ConsoleWriter(max_iter=5000).write()
    assert caplog.messages == [
        "[ 500/5000]  epoch 2.50  loss 1.25 (cls 0.500, mask 0.750)  AP box 36.8 mask 47.8  lr 8.58e-04  "
        "32.0 img/s  0.250 s/it (data 0.010)  GPU 2.0 GiB  ETA 1:02:05"
    ]


def test_losses_are_the_median_of_the_last_20_iterations(caplog):
    caplog.set_level(logging.INFO)
    with EventStorage() as storage:
        for iteration in range(40):
            storage.iter = iteration
            storage.put_scalar("total_loss", 1000.0 if iteration < 20 else iteration)
        ConsoleWriter(max_iter=100).write()
    assert "loss 29.5" in caplog.text


def test_the_losses_of_inner_stages_are_summed(caplog):
    caplog.set_level(logging.INFO)
    with EventStorage() as storage:
        storage.put_scalars(total_loss=3.0, loss_ce=1.0, loss_ce_0=0.75, loss_ce_1=1.25)
        ConsoleWriter(max_iter=10).write()
    assert "loss 3.00 (ce 1.00, stages 2.00)" in caplog.text


def test_one_iteration_is_one_line_and_a_missing_ap_is_left_out(caplog):
    caplog.set_level(logging.INFO)
    with EventStorage() as storage:
        put_step(storage)
        storage.put_scalar("bbox/AP", float("nan"), smoothing_hint=False)
        writer = ConsoleWriter(max_iter=10)
        writer.write()
        writer.write()
    assert len(caplog.messages) == 1
    assert not re.search(r"\bAP\b|nan", caplog.text)


def test_a_storage_without_numbers_gives_a_line_with_the_iteration(caplog):
    caplog.set_level(logging.INFO)
    with EventStorage(3):
        ConsoleWriter(max_iter=10).write()
    assert caplog.messages == ["[ 4/10]"]
