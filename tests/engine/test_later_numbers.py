"""Steps whose numbers the host reads after the next one has begun, beside those that it waits for."""

import json
import logging

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.engine.quick_processes import run_group
from tests.engine.test_gradients import Batches, Regression, make_trainer
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.errors import RunFailure

OPTIMIZERS = {
    "SGD": lambda parameters, fused: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.01, fused=fused),
    "AdamW": lambda parameters, fused: torch.optim.AdamW(parameters, 0.1, fused=fused),
}


def trainer_of(folder, later, bad=(), optimizer="SGD", fused=True, model=None, share=slice(None), **options):
    trainer = make_trainer(folder, model or Regression(batch_norm=True), Batches(bad, share), **options)
    trainer.optimizer = OPTIMIZERS[optimizer](list(trainer.model.parameters()), fused)
    trainer.named_hooks.clear()
    trainer._hooks.clear()  # the one of the tests reads the storage in each step
    trainer.reads_later = later
    return trainer


def state_of(trainer):
    optimizer = trainer.optimizer.state_dict()["state"]
    history = {name: buffer.values() for name, buffer in trainer.storage.histories().items() if name != "skipped_steps"}
    return trainer.model.state_dict(), optimizer, history, trainer.skipped_steps


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_weights_states_statistics_and_log_are_the_same_and_steps_that_are_not_finite_change_none(
    tmp_path, optimizer, max_norm, caplog
):
    states = []
    for later in (True, False):
        trainer = trainer_of(tmp_path, later, (2, 4), optimizer, max_skipped_steps=2, max_norm=max_norm)
        trainer.train(0, 7)
        states.append(state_of(trainer))
    torch.testing.assert_close(*(state[:2] for state in states), rtol=0, atol=0)
    assert states[0][2:] == states[1][2:]
    assert [iteration for _, iteration in states[0][2]["total_loss"]] == [0, 1, 3, 5, 6]
    assert caplog.text.count("skipped iteration 4") == 2


def test_an_optimizer_whose_kernel_is_not_fused_waits_and_steps_alike(tmp_path):
    states = []
    for later in (True, False):
        trainer = trainer_of(tmp_path, later, (2,), fused=False, max_skipped_steps=1)
        trainer.train(0, 4)
        states.append(state_of(trainer))
    torch.testing.assert_close(*(state[:2] for state in states), rtol=0, atol=0)


@pytest.mark.parametrize("iterations", [4, 6])
def test_the_failure_names_the_step_and_its_images_and_the_weights_are_as_before(tmp_path, iterations):
    trainer = trainer_of(tmp_path, True, (1, 2, 3), max_skipped_steps=2)
    with pytest.raises(RunFailure) as error:
        trainer.train(0, iterations)
    words = "after 2 skipped steps, the loss is not finite at iteration 3 (loss_largest, loss_root)"
    assert words in error.value.message
    assert "3_0.png" in error.value.message and "4_0.png" not in error.value.message
    assert trainer.iter == min(4, iterations - 1)
    expected = trainer_of(tmp_path, False)
    expected.train(0, 1)
    assert all(map(torch.equal, trainer.model.parameters(), expected.model.parameters()))


def test_the_first_step_is_waited_for_since_it_makes_the_momentum(tmp_path):
    trainer = trainer_of(tmp_path, True, (0,), max_skipped_steps=1)
    trainer.train(0, 1)
    assert not trainer.optimizer.state and trainer.skipped_steps == 1


def test_a_checkpoint_counts_a_step_that_is_not_judged_yet(tmp_path):
    trainer = trainer_of(tmp_path, True, (1,), max_skipped_steps=1)
    counts = []
    trainer.after_step = lambda: counts.append(trainer.state_dict()["skipped_steps"])
    trainer.train(0, 4)
    assert counts == [0, 1, 1, 1]


def test_a_wish_to_stop_is_met_one_step_later(tmp_path):
    trainer = trainer_of(tmp_path, True)
    trainer.before_step = lambda: trainer.request_stop("enough") if trainer.iter == 2 else None
    trainer.train(0, 9)
    assert trainer.iterations_done == 4 and trainer.stop_reason == "enough"
    assert trainer.last_losses["total_loss"] > 0


def test_processes_leave_out_the_same_steps_and_stop_together(tmp_path):
    run_group(_train_in_group, str(tmp_path), processes=2, log=tmp_path / "log.txt")
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    assert ranks[0]["skipped"] == 1 and ranks[0]["done"] == 6
    assert "at iteration 3" in ranks[0]["error"] and "images 3_2.png, 3_3.png" in ranks[0]["error"]


def _train_in_group(folder: str) -> None:
    run_processes(plan_launch("cpu"), _train_process, folder)


def _train_process(folder: str) -> None:
    logging.disable(logging.CRITICAL)
    rank = torch.distributed.get_rank()
    # the second process alone has what is not finite, and is asked to stop
    share, bad = slice(2 * rank, 2 * rank + 2), rank and (3,)
    results = {}
    for allowed in (1, 0):
        trainer = trainer_of(
            folder, True, bad or (), model=DistributedDataParallel(Regression()), share=share, max_skipped_steps=allowed
        )
        trainer.before_step = lambda trainer=trainer: (
            trainer.request_stop("enough") if rank and trainer.iter == 4 else None
        )
        try:
            trainer.train(0, 9)
        except RunFailure as error:
            results["error"] = error.message
        else:
            weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).tolist()
            results |= {"skipped": trainer.skipped_steps, "done": trainer.iterations_done, "weights": weights}
    with open(f"{folder}/rank{rank}.json", "w") as stream:
        json.dump(results, stream)
