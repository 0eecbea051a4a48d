"""Images of noise with box-shaped objects, as a mapper would give them to a model in training."""

import torch
from detectron2.structures import BitMasks, Boxes, Instances


def make_image(size: tuple[int, int], objects: int, classes: int) -> dict:
    """A dict of detectron2's: `image` `(3, H, W)` uint8 and `instances` of 16 to 40 pixels.

    Args:
        size: height and width, pixels.
    """
    height, width = size
    corners = torch.rand(objects, 2) * torch.tensor([width - 40.0, height - 40.0])
    boxes = torch.cat([corners, corners + 16 + torch.rand(objects, 2) * 24], dim=1)
    masks = torch.zeros(objects, height, width, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    instances = Instances(size)
    instances.gt_boxes, instances.gt_masks = Boxes(boxes), BitMasks(masks)
    instances.gt_classes = torch.randint(classes, (objects,))
    return {"image": torch.randint(256, (3, *size), dtype=torch.uint8), "instances": instances, "file_name": "made"}
