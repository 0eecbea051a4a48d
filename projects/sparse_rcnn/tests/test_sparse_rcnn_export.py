"""The whole detector as an exported program, for pictures of one size."""

import pytest
import torch
from torch import nn

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import picture, tiny_model


class OfOnePicture(nn.Module):
    """Tensors in, tensors out: an image `(3, H, W)` to boxes, scores, classes and the probabilities of masks."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        [found] = self.detector.inference([{"image": image}], do_postprocess=False)
        return found.pred_boxes.tensor, found.scores, found.pred_classes, found.pred_masks


@pytest.mark.filterwarnings("ignore")  # detectron2 and torch about their own deprecated functions
def test_an_exported_detector_finds_the_same_in_other_pictures(tmp_path):
    detector = OfOnePicture(tiny_model("box_transformer", masks=True, overrides=["model.head.num_stages=1"])).eval()
    # larger boxes and smaller ones are pooled from other levels: how many there are of each must stay open
    detector.detector.init_proposal_boxes.weight.data = torch.tensor(
        [[0.5, 0.5, 1, 1], [0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4], [0.7, 0.7, 0.9, 0.9], [0.5, 0.5, 5, 5]]
    )
    for stage in detector.detector.head.head_series:
        stage.bboxes_delta.weight.data *= 10
    with torch.no_grad():
        exported = torch.export.export(detector, (picture(seed=1)["image"],))
        torch.export.save(exported, tmp_path / "detector.pt2")
        program = torch.export.load(tmp_path / "detector.pt2").module()
        for seed in range(1, 4):
            image = picture(seed=seed)["image"]
            for found, wanted in zip(program(image), detector(image), strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
