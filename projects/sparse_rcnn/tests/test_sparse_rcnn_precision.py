"""Training steps in bfloat16: matching and losses in float32, close to those of float32."""

import pytest
import torch

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import detect, image, tiny_model, total

VARIANTS = [{}, {"softmax": True}, {"masks": True}, {"boxes": "box_transformer"}]


@pytest.mark.parametrize("variant", VARIANTS, ids=["focal", "softmax", "masks", "box transformer"])
def test_a_step_in_bfloat16_is_close_to_one_in_float32(variant, one_thread):
    batch = [image(objects=3, masks=True), image(48, 64, objects=0, masks=True, seed=1)]
    exact, model = tiny_model(**variant), tiny_model(**variant)
    torch.manual_seed(0)  # the box transformer's dropout
    wanted = exact(batch)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    # bfloat16 has between two and three significant digits, and the stages add up their errors
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {name: loss.item() for name, loss in wanted.items()}, rel=0.1, abs=0.02
    )
    total(losses).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
def test_training_in_bfloat16_gets_as_far_as_in_float32(one_thread):
    reached = {}
    for enabled in (False, True):
        model, batch = tiny_model(), [image(objects=3)]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(20):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                losses = model(batch)
            optimizer.zero_grad()
            total(losses).backward()
            optimizer.step()
        reached[enabled] = total(losses).item()
    started = total(tiny_model()(batch)).item()
    assert reached[True] < 0.75 * started
    assert reached[True] == pytest.approx(reached[False], rel=0.15)


def test_detections_in_bfloat16_are_close_to_those_in_float32(one_thread):
    model, batch = tiny_model(masks=True), [image()]
    exact = detect(model, batch)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = detect(model, batch)[0]
    assert found.pred_boxes.tensor.dtype == found.scores.dtype == torch.float32
    torch.testing.assert_close(found.scores.sort().values, exact.scores.sort().values, rtol=0.1, atol=1e-3)
