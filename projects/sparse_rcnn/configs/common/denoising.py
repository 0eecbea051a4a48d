"""What can stand in `model.denoising`."""

from detectron2.config import LazyCall as L
from sparse_rcnn.denoising import Denoising

denoising = L(Denoising)(num_queries=50, box_noise=0.4)
