"""Proposals from the image: a dense head finds boxes and queries in the feature maps, and the distinct best go on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import box_iou

from sparse_rcnn.box_transformer import grid
from sparse_rcnn.dense_assignment import TaskAlignedAssigner
from sparse_rcnn.proposal_boxes import Proposals
from sparse_rcnn.set_loss import giou_loss
from sparse_rcnn.targets import Targets
from xray_lazy.modeling.batch_counts import mean_count
from xray_lazy.modeling.filled_batches import at_most


@dataclass
class DensePredictions:
    """Of the `P` cells of all levels, finest level first.

    Attributes:
        logits: `(B, P, num_classes)`.
        boxes: `(B, P, 4)`, xyxy pixels.
        features: `(B, P, D)`, of the head's last convolution.
        centers: `(P, 2)`, x and y in pixels; strides: `(P,)`, pixels.
        is_padding: `(B, P)`, cells outside of their image.
    """

    logits: torch.Tensor
    boxes: torch.Tensor
    features: torch.Tensor
    centers: torch.Tensor
    strides: torch.Tensor
    is_padding: torch.Tensor


class ImageProposals(nn.Module):
    """Dense distinct queries (Zhang et al., "Dense Distinct Query for End-to-End Object Detection", CVPR 2023).

    Convolutions that all levels share give class logits, a box and a feature for each cell. The best cells whose boxes
    do not overlap much start the cascade: their boxes, and their features as queries. They learn one to one, as the
    cascade's stages do, and all cells one to many.

    Args:
        num_proposals: `N`.
        num_classes: classes of the data set.
        dim: `D`, of feature maps and queries.
        num_convs: 3x3 convolutions before the outputs.
        feature_level: index of the feature map to look for objects in, or several; None for all. The finest one has
            three quarters of all cells.
        num_candidates: cells with the highest scores, among which distinct ones are chosen.
        nms_threshold: IoU from which on the lower one of two candidates is left out while there are others.
        assigner: which cells are to find which object.
        class_weight, giou_weight: of the losses of all cells.
        focusing: exponent by which the class loss of a cell counts less the nearer its score is to the wanted one
            (Li et al., "Generalized Focal Loss", NeurIPS 2020); 0 for plain cross entropy.
        prior_probability: score of each class before training.
    """

    gives_queries = True

    def __init__(
        self,
        num_proposals: int,
        num_classes: int,
        dim: int = 256,
        num_convs: int = 2,
        feature_level: int | Sequence[int] | None = None,
        num_candidates: int = 1000,
        nms_threshold: float = 0.7,
        assigner: TaskAlignedAssigner | None = None,
        class_weight: float = 1.0,
        giou_weight: float = 2.0,
        focusing: float = 2.0,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        self.num_proposals, self.num_candidates, self.nms_threshold = num_proposals, num_candidates, nms_threshold
        self.feature_levels = [feature_level] if isinstance(feature_level, int) else list(feature_level or ())
        self.assigner = assigner or TaskAlignedAssigner()
        self.class_weight, self.giou_weight, self.focusing = class_weight, giou_weight, focusing
        layers: list[nn.Module] = []
        for _ in range(num_convs):
            layers += [nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.GroupNorm(math.gcd(32, dim), dim), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.class_logits, self.distances = nn.Conv2d(dim, num_classes, 3, padding=1), nn.Conv2d(dim, 4, 3, padding=1)
        self.query = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.reset_parameters(prior_probability)

    def reset_parameters(self, prior_probability: float) -> None:
        """Small outputs: each class at its prior, each box two cells from its center to each side."""
        for output in (self.class_logits, self.distances):
            nn.init.normal_(output.weight, std=0.01)
        nn.init.constant_(self.class_logits.bias, -math.log((1 - prior_probability) / prior_probability))
        nn.init.constant_(self.distances.bias, math.log(2))

    def forward(
        self,
        learned: torch.Tensor | None,
        features: Sequence[torch.Tensor],
        image_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> Proposals:
        """The distinct best of all cells; `learned` queries are not used."""
        dense = self.dense(features, image_sizes, padded_size)
        chosen = self.distinct(dense)
        images = torch.arange(chosen.shape[0], device=chosen.device)[:, None]
        # what the cascade learns leaves the dense head alone
        queries = self.query(dense.features[images, chosen].detach())
        return Proposals(dense.boxes[images, chosen][None], queries, dense.logits[images, chosen], dense)

    def dense(
        self, features: Sequence[torch.Tensor], image_sizes: Sequence[tuple[int, int]], padded_size: tuple[int, int]
    ) -> DensePredictions:
        """Predictions of the cells of the feature maps that `feature_level` chooses from these `(B, D, h, w)`."""
        logits, distances, seen, centers, strides, is_padding = [], [], [], [], [], []
        for feature in [features[level] for level in self.feature_levels] or features:
            shared = self.tower(feature)
            height, width = feature.shape[-2:]
            stride_y, stride_x = padded_size[0] / height, padded_size[1] / width
            rows = (torch.arange(height, device=feature.device) + 0.5) * stride_y
            columns = (torch.arange(width, device=feature.device) + 0.5) * stride_x
            centers.append(torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1))
            strides.append(rows.new_full((height * width,), stride_y))
            is_padding.append(grid(feature, image_sizes, padded_size)[1].flatten(1))
            maps = (self.class_logits(shared), self.distances(shared), shared)
            for values, of_level in zip((logits, distances, seen), maps, strict=True):
                values.append(of_level.flatten(2).transpose(1, 2))
        centers, strides = torch.cat(centers), torch.cat(strides)
        # a box is at most as large as e**5 cells: the exponential of a diverging model stays finite
        reach = torch.cat(distances, 1).float().clamp(max=5).exp() * strides[:, None]
        boxes = torch.cat([centers - reach[..., :2], centers + reach[..., 2:]], -1)
        return DensePredictions(
            torch.cat(logits, 1).float(), boxes, torch.cat(seen, 1), centers, strides, torch.cat(is_padding, 1)
        )

    @torch.no_grad()
    def distinct(self, dense: DensePredictions) -> torch.Tensor:
        """The cells `(B, N)` that become proposals, best first.

        Of the candidates, one that overlaps a better one comes after all that don't (Bolya et al., "YOLACT", ICCV 2019,
        fast NMS): unlike with NMS, all images give the same number, and the host waits for no GPU.
        """
        scores = dense.logits.amax(-1).sigmoid().masked_fill(dense.is_padding, -1.0)
        candidates = max(self.num_candidates, self.num_proposals)
        scores, cells = scores.topk(at_most(scores.shape[1], candidates), dim=1)
        boxes = dense.boxes.gather(1, cells[..., None].expand(-1, -1, 4))
        overlaps = box_iou(boxes, boxes).triu(diagonal=1)
        repeats = overlaps.amax(1) > self.nms_threshold
        order = (scores - 2.0 * repeats).topk(at_most(scores.shape[1], self.num_proposals), dim=1).indices
        return cells.gather(1, order)

    def losses(self, proposals: Proposals, targets: Targets) -> dict[str, torch.Tensor]:
        """Of all cells, one to many: `loss_ce_dense` and `loss_giou_dense`."""
        dense = proposals.dense
        wanted = self.assigner(
            dense.logits.sigmoid(), dense.boxes, dense.centers, dense.strides, dense.is_padding, targets
        )
        total = mean_count(wanted.weights.sum(), dense.boxes.device)
        distance = (wanted.scores - dense.logits.sigmoid()).abs()
        classes = F.binary_cross_entropy_with_logits(dense.logits, wanted.scores, reduction="none")
        classes = (distance**self.focusing * classes).sum(-1).masked_fill(dense.is_padding, 0).sum()
        boxes = (giou_loss(dense.boxes, wanted.boxes) * wanted.weights).sum()
        return {
            "loss_ce_dense": self.class_weight * classes / total,
            "loss_giou_dense": self.giou_weight * boxes / total,
        }
