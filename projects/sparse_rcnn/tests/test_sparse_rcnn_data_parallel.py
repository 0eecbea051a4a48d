"""Two processes with half of the batch each have the losses and gradients of one with all of it."""

import itertools

import pytest
import torch

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import image, tiny_model, total
from xray_lazy.engine.processes.launch import plan_launch, run_processes

pytestmark = pytest.mark.slow

VARIANTS = {
    "focal": {},
    "softmax": {"softmax": True},
    "masks": {"masks": True},
    "image proposals": {"boxes": "image_proposals"},
    # without noise, as each process draws its own
    "denoising": {
        "boxes": "image_proposals",
        "overrides": ["model.denoising={_target_: sparse_rcnn.denoising.Denoising, num_queries: 6, box_noise: 0}"],
    },
    "box transformer": {
        "boxes": "box_transformer",
        "overrides": ["model.supervise_proposal_boxes=True", "model.init_proposal_boxes.dropout=0"],
    },
}
# of the images of both processes: very different numbers, fewer objects than processes, none
OBJECTS = {"many": [7, 2, 0, 1], "one": [0, 0, 1, 0], "none": [0, 0, 0, 0]}


def losses_and_gradients(variant: str, images: list[dict]) -> tuple[dict, dict]:
    model = tiny_model(**VARIANTS[variant])
    losses = model(images)
    total(losses).backward()
    return {name: loss.detach() for name, loss in losses.items()}, {n: p.grad for n, p in model.named_parameters()}


def images(variant: str, objects: str) -> list[dict]:
    return [image(objects=count, seed=seed, masks=variant == "masks") for seed, count in enumerate(OBJECTS[objects])]


def train_share(folder):
    torch.set_num_threads(1)
    rank, results = torch.distributed.get_rank(), {}
    for case in itertools.product(VARIANTS, OBJECTS):
        losses, gradients = losses_and_gradients(case[0], images(*case)[2 * rank : 2 * rank + 2])
        for value in (*losses.values(), *gradients.values()):
            torch.distributed.all_reduce(value)
            value /= 2  # as DistributedDataParallel does it with gradients
        results[case] = losses, gradients
    if rank == 0:
        torch.save(results, folder / "results.pth")


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    run_processes(plan_launch("cpu", num_processes=2), train_share, folder)
    return torch.load(folder / "results.pth")


@pytest.mark.parametrize("objects", OBJECTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_are_as_one(variant, objects, of_two_processes, one_thread):
    losses, gradients = losses_and_gradients(variant, images(variant, objects))
    shared_losses, shared_gradients = of_two_processes[variant, objects]
    assert set(losses) == set(shared_losses)
    for name, value in losses.items():
        torch.testing.assert_close(shared_losses[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for name, value in gradients.items():
        torch.testing.assert_close(shared_gradients[name], value, rtol=1e-3, atol=1e-4, msg=name)
