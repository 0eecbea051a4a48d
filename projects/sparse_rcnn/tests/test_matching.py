"""The assignment: equal to the plain method's, with one wait for the device."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sparse_rcnn.classification import FocalClassification, SoftmaxClassification
from sparse_rcnn.matching import HungarianMatcher, Matches
from sparse_rcnn.targets import Targets
from torch.overrides import TorchFunctionMode
from torchvision.ops import generalized_box_iou

from projects.sparse_rcnn.tests.executed_operators import ExecutedOperators

NUM_CLASSES = 4
CLASSIFICATIONS = {"focal": FocalClassification(NUM_CLASSES), "softmax": SoftmaxClassification(NUM_CLASSES)}


def random_boxes(random: torch.Generator, *shape: int) -> torch.Tensor:
    corners = torch.rand(*shape, 2, generator=random) * 80
    return torch.cat([corners, corners + torch.rand(*shape, 2, generator=random) * 60 + 1], -1)


def random_problem(stages: int, proposals: int, counts: list[int], kind: str, seed: int = 0):
    """Logits, boxes and targets."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(
        stages, len(counts), proposals, CLASSIFICATIONS[kind].num_logits, generator=random, dtype=torch.float32
    )
    targets = Targets(
        classes=torch.randint(0, NUM_CLASSES, (sum(counts),), generator=random),
        boxes=random_boxes(random, sum(counts)),
        counts=counts,
        scales=torch.tensor([[100.0 + 10 * i, 80, 100 + 10 * i, 80] for i in range(len(counts))]),
    )
    return logits, random_boxes(random, stages, len(counts), proposals), targets


def plain_assignment(kind: str, logits: torch.Tensor | None, boxes: torch.Tensor, targets: Targets) -> list[set]:
    """Stage by stage: costs of all proposals of the batch with all of its objects, then image by image.

    Returns:
        of each stage, triples of image, proposal and object.
    """
    stages, images, proposals, _ = boxes.shape
    scales = targets.scales
    object_scales = scales.repeat_interleave(torch.tensor(targets.counts), 0)
    assignments = []
    for stage in range(stages):
        relative = boxes[stage] / scales[:, None]
        l1 = (relative.flatten(0, 1)[:, None] - (targets.boxes / object_scales)[None]).abs().sum(-1)
        cost = 5 * l1 - 2 * generalized_box_iou(boxes[stage].flatten(0, 1), targets.boxes)
        if logits is not None:
            cost += 2 * plain_class_cost(kind, logits[stage].flatten(0, 1))[:, targets.classes]
        cost = np.nan_to_num(cost.view(images, proposals, -1).numpy(), nan=1e6, posinf=1e6, neginf=1e6)
        pairs, start = set(), 0
        for image, count in enumerate(targets.counts):
            rows, columns = linear_sum_assignment(cost[image, :, start : start + count])
            pairs |= {(image, int(row), start + int(column)) for row, column in zip(rows, columns, strict=True)}
            start += count
        assignments.append(pairs)
    return assignments


def plain_class_cost(kind: str, logits: torch.Tensor) -> torch.Tensor:
    if kind == "softmax":
        return -logits.softmax(-1)
    p = logits.sigmoid()
    positive = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log()
    return positive - 0.75 * p**2 * -(1 - p + 1e-8).log()


def triples(matches: Matches) -> list[set]:
    return [
        set(zip(matches.images.tolist(), proposals.tolist(), objects.tolist(), strict=True))
        for proposals, objects in zip(matches.proposals, matches.objects, strict=True)
    ]


@settings(deadline=None)
@given(
    stages=st.integers(1, 4),
    proposals=st.integers(1, 12),
    counts=st.lists(st.integers(0, 15), min_size=1, max_size=4),
    kind=st.sampled_from(["focal", "softmax", "boxes alone"]),
    seed=st.integers(0, 10_000),
)
def test_assignments_are_those_of_the_plain_method(stages, proposals, counts, kind, seed):
    logits, boxes, targets = random_problem(
        stages, proposals, counts, "softmax" if kind == "softmax" else "focal", seed
    )
    if kind == "boxes alone":
        logits = None
    matches = HungarianMatcher(CLASSIFICATIONS.get(kind, CLASSIFICATIONS["focal"]))(logits, boxes, targets)
    assert triples(matches) == plain_assignment(kind, logits, boxes, targets)
    assert matches.counts == [min(count, proposals) for count in counts]
    assert matches.images.tolist() == [i for i, count in enumerate(matches.counts) for _ in range(count)]
    # a proposal and an object are used once
    assert all(
        len({(p, q) for p, q, _ in stage}) == len(stage) == len({o for *_, o in stage}) for stage in triples(matches)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_predictions_that_are_not_finite_are_matched_without_an_exception(value):
    logits, boxes, targets = random_problem(2, 6, [3, 0, 8], "focal")
    logits[0, 0] = value
    boxes[1, 2, :3] = value
    matches = HungarianMatcher(CLASSIFICATIONS["focal"])(logits, boxes, targets)
    assert matches.counts == [3, 0, 6]
    assert matches.proposals.shape == matches.objects.shape == (2, 9)


def test_a_image_of_a_batch_is_matched_as_alone():
    logits, boxes, targets = random_problem(3, 6, [4, 0, 9, 2], "focal")
    matcher = HungarianMatcher(CLASSIFICATIONS["focal"])
    together = triples(matcher(logits, boxes, targets))
    for image in range(4):
        own = targets.slice_of(image)
        one = slice(image, image + 1)
        alone = Targets(targets.classes[own], targets.boxes[own], [targets.counts[image]], targets.scales[one])
        for stage, pairs in enumerate(triples(matcher(logits[:, one], boxes[:, one], alone))):
            moved = {(image, proposal, own.start + wanted) for _, proposal, wanted in pairs}
            assert moved == {pair for pair in together[stage] if pair[0] == image}


def test_the_taken_predictions_are_those_of_the_pairs():
    logits, boxes, targets = random_problem(3, 6, [4, 0, 9], "focal")
    matches = HungarianMatcher(CLASSIFICATIONS["focal"])(logits, boxes, targets)
    taken = matches.take(boxes)
    for stage in range(3):
        for place, (image, proposal) in enumerate(zip(matches.images, matches.proposals[stage], strict=True)):
            assert torch.equal(taken[stage, place], boxes[stage, image, proposal])


class Waits(TorchFunctionMode):
    """Notes calls that would make the host wait for a device, and how large the results are."""

    METHODS = ("cpu", "item", "tolist", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        result = func(*args, **(kwargs or {}))
        if name in self.METHODS or func in (torch.nonzero, torch.unique, torch.argwhere):
            self.calls.append((name, result))
        return result


def test_the_matcher_waits_once_for_the_device_for_all_stages_and_images():
    logits, boxes, targets = random_problem(6, 20, [3, 0, 25, 7], "focal")
    matcher = HungarianMatcher(CLASSIFICATIONS["focal"])
    with Waits() as waits, ExecutedOperators() as operators:
        matcher(logits, boxes, targets)
    # on the CPU the copy that `cpu` is elsewhere is left out, and its result is what `numpy` shares
    assert [name for name, _ in waits.calls] == ["cpu", "numpy"]
    assert waits.calls[0][1].numel() == 6 * 20 * (3 + 25 + 7)
    hidden = {"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal", "is_nonzero"}
    assert not hidden & operators.names


def test_costs_are_of_pairs_within_a_image():
    counts = [5] * 8
    logits, boxes, targets = random_problem(6, 20, counts, "focal")
    with ExecutedOperators() as operators:
        HungarianMatcher(CLASSIFICATIONS["focal"])(logits, boxes, targets)
    # the largest is the row of all costs; with the objects of other images there would be eight times as many
    assert operators.largest == 6 * 20 * sum(counts)


@pytest.mark.gpu
def test_the_gpu_is_waited_for_once():
    logits, boxes, targets = random_problem(6, 20, [3, 0, 25, 7], "focal")
    on_gpu = Targets(targets.classes.cuda(), targets.boxes.cuda(), targets.counts, targets.scales.cuda())
    matcher = HungarianMatcher(CLASSIFICATIONS["focal"])
    matcher(logits.cuda(), boxes.cuda(), on_gpu)
    logits, boxes = logits.cuda(), boxes.cuda()
    with torch.profiler.profile() as profile:
        matches = matcher(logits, boxes, on_gpu)
    copies = [event for event in profile.events() if "Memcpy DtoH" in event.name]
    assert len(copies) == 1
    assert triples(matches) == plain_assignment("focal", logits.cpu(), boxes.cpu(), targets)
