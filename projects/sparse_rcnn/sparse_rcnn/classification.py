"""What class logits mean: costs for matching, losses, and scores. One class for each way."""

import math

import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from xray_lazy.modeling.batch_counts import mean_count
from xray_lazy.modeling.filled_batches import at_most


class FocalClassification:
    """Independent sigmoids per class with the focal loss (Lin et al., ICCV 2017). The published setting.

    Args:
        num_classes: classes of the data set.
        alpha: weight of positives; negatives have `1 - alpha`.
        gamma: exponent of the focusing factor.
        prior_probability: score of each class before training.
    """

    class_weights = None
    learns_overlap = False

    def __init__(
        self, num_classes: int, alpha: float = 0.25, gamma: float = 2.0, prior_probability: float = 0.01
    ) -> None:
        self.num_classes, self.alpha, self.gamma = num_classes, alpha, gamma
        self.num_logits = num_classes
        self.initial_bias = -math.log((1 - prior_probability) / prior_probability)

    def cost(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Cost of matching each prediction `(P, num_logits)` with each object's class `(T,)`, as `(P, T)`."""
        # only the columns of classes that are there are worth the logarithms
        logits = logits[:, classes]
        probability = logits.sigmoid()
        positive = self.alpha * (1 - probability) ** self.gamma * -(probability + 1e-8).log()
        negative = (1 - self.alpha) * probability**self.gamma * -(1 - probability + 1e-8).log()
        return positive - negative

    def loss(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        num_objects: torch.Tensor,
        class_weights: None = None,
        overlaps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss of each stage `(S,)`.

        Args:
            logits: `(S, B, N, num_logits)`.
            targets: `(S, B, N)`, the class of the matched object; `num_classes` where there is none.
            num_objects: what the sum is divided by, see `Targets.num_objects`.
            overlaps: `(S, B, N)`, IoU of the predicted box and that of the matched object; only for a classification
                that `learns_overlap`.
        """
        matched = F.one_hot(targets, self.num_classes + 1)[..., :-1].to(logits.dtype)
        return self._losses(logits, matched, overlaps).flatten(1).sum(1) / num_objects

    def _losses(self, logits: torch.Tensor, matched: torch.Tensor, overlaps: torch.Tensor | None) -> torch.Tensor:
        """Of each logit; `matched` is 1 at the class of a matched object, else 0."""
        return sigmoid_focal_loss(logits, matched, alpha=self.alpha, gamma=self.gamma)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """The score of each class, `(..., num_classes)`."""
        return logits.sigmoid()

    def best(self, logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The `count` best pairs of proposal and class of each image.

        Args:
            logits: `(B, N, num_logits)`.

        Returns:
            scores, classes and proposals' indices, each `(B, K)`, best first.
        """
        scores = self.scores(logits).flatten(1)
        scores, places = scores.topk(at_most(scores.shape[1], count), dim=1)
        return scores, places % self.num_classes, places.div(self.num_classes, rounding_mode="floor")


class OverlapClassification(FocalClassification):
    """Sigmoids that learn how well the box fits, by the matchability-aware loss (Huang et al., "DEIM", CVPR 2025).

    The score to learn is the IoU to the power of `gamma`; proposals without an object are weighted by their score to
    the power of `gamma`. Costs of matching are those of the focal loss.

    Args:
        num_classes: classes of the data set.
        gamma: exponent of the loss.
        prior_probability: score of each class before training.
    """

    learns_overlap = True

    def __init__(self, num_classes: int, gamma: float = 1.5, prior_probability: float = 0.01) -> None:
        super().__init__(num_classes, prior_probability=prior_probability)
        self.loss_gamma = gamma

    def _losses(self, logits: torch.Tensor, matched: torch.Tensor, overlaps: torch.Tensor | None) -> torch.Tensor:
        """As of `FocalClassification`."""
        assert overlaps is not None
        wanted = matched * overlaps[..., None] ** self.loss_gamma
        weights = torch.where(matched > 0, 1.0, logits.detach().sigmoid() ** self.loss_gamma)
        return F.binary_cross_entropy_with_logits(logits, wanted, weights, reduction="none")


class SoftmaxClassification:
    """A softmax over the classes and "no object".

    Args:
        num_classes: classes of the data set.
        no_object_weight: weight of "no object" in the cross entropy, relative to the classes.
    """

    initial_bias = 0.0
    learns_overlap = False

    def __init__(self, num_classes: int, no_object_weight: float = 0.1) -> None:
        self.num_classes = num_classes
        self.num_logits = num_classes + 1
        self.class_weights = torch.ones(num_classes + 1)
        self.class_weights[-1] = no_object_weight

    def cost(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """As `FocalClassification.cost`: the probability, negated."""
        return -logits.softmax(-1)[:, classes]

    def loss(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        num_objects: torch.Tensor,
        class_weights: torch.Tensor,
        overlaps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `FocalClassification.loss`, but a mean weighted by `class_weights` over all proposals of all processes."""
        losses = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), class_weights, reduction="none")
        weights = class_weights[targets].flatten(1).sum(1)
        # the weight of a batch without objects may be less than 1, or nothing
        total_weight = mean_count(weights, weights.device, minimum=torch.finfo(weights.dtype).tiny)
        return losses.view_as(targets).flatten(1).sum(1) / total_weight

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """As `FocalClassification.scores`."""
        return logits.softmax(-1)[..., :-1]

    def best(self, logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `FocalClassification.best`, with one class for each proposal."""
        scores, classes = self.scores(logits).max(-1)
        scores, proposals = scores.topk(at_most(scores.shape[1], count), dim=1)
        return scores, classes.gather(1, proposals), proposals
