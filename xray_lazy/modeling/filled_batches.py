"""Images of several sizes as one tensor, in a form that a traced graph follows for any number of them."""

import torch
import torch.nn.functional as F
from detectron2.structures import ImageList


def normalised_batch(
    images: torch.Tensor, sizes: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, divisor: int
) -> torch.Tensor:
    """What a network gets of a batch: detectron2's `ImageList.from_tensors` of normalised images.

    Args:
        images: `(B, channels, H, W)`, 0..255, each at the upper left; what is beyond its size plays no part.
        sizes: `(B, 2)` int64, height and width of each.
        mean, std: `(channels, 1, 1)`.
        divisor: of the result's height and width.

    Returns:
        `(B, channels, H', W')`, 0 beyond each image.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[:, None] < sizes[:, 0, None, None]
    columns = torch.arange(width, device=images.device) < sizes[:, 1, None, None]
    pixels = ((images - mean) / std) * (rows & columns)[:, None]
    return F.pad(pixels, (0, -width % divisor, 0, -height % divisor)) if divisor > 1 else pixels


def filled_up(images: list[torch.Tensor], divisor: int) -> ImageList:
    """`ImageList.from_tensors`, which torch.export follows for one image: a size that comes out of a tensor, as
    detectron2's do, is one that it knows nothing of.

    Args:
        images: `(channels, H, W)` each.
        divisor: of the result's height and width.
    """
    if len(images) > 1 or torch.jit.is_tracing():
        return ImageList.from_tensors(images, divisor)
    height, width = images[0].shape[-2:]
    return ImageList(F.pad(images[0], (0, -width % divisor, 0, -height % divisor))[None], [(height, width)])


def at_most(length: int | torch.Tensor, count: int) -> int | torch.Tensor:
    """The smaller one; a length that is a tensor, as traced ones are, stays open."""
    return length.clamp(max=count) if isinstance(length, torch.Tensor) else min(length, count)
