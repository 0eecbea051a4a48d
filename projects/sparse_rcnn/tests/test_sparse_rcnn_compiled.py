"""`train.compile` of the recipes."""

import torch
from tiny_sparse_rcnn import image, tiny_model, total

from xray_lazy.config import get_config
from xray_lazy.engine.acceleration import compile_parts


def test_a_compiled_stage_keeps_losses_and_gradients(one_thread):
    parts = get_config("projects/sparse_rcnn/common/recipe.py").train.compile.parts
    assert parts == ["backbone", "head.head_series.*"]
    batch = [image(seed=1), image(48, 64, seed=2)]
    plain, compiled = (tiny_model(overrides=["model.head.num_stages=1"]) for _ in range(2))
    compile_parts(compiled, parts[1:], dynamic=False, backend="aot_eager")
    for model in (plain, compiled):
        total(model(batch)).backward()
    assert compiled.head.head_series[0]._compiled_call_impl is not None  # it did not give way to the plain one
    for (name, expected), found in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=name)
