"""How the learning rate runs over training. All of them follow train.max_iter."""

from detectron2.config import LazyCall as L

from xray_lazy.engine.schedules import warmup_constant, warmup_cosine, warmup_multi_step

cosine = L(warmup_cosine)(max_iter="${train.max_iter}", warmup_iters=500, warmup_factor=0.001, final_factor=0.0)

# the 3x schedule of detectron2's model zoo: steps at 210k and 250k of 270k
multi_step = L(warmup_multi_step)(
    max_iter="${train.max_iter}", milestones=[7 / 9, 25 / 27], gamma=0.1, warmup_iters=500, warmup_factor=0.001
)

constant = L(warmup_constant)(max_iter="${train.max_iter}", warmup_iters=500, warmup_factor=0.001)
