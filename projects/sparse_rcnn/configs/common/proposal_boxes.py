"""What can stand in `model.init_proposal_boxes` instead of the learned boxes."""

from detectron2.config import LazyCall as L
from sparse_rcnn.box_transformer import BoxTransformer
from sparse_rcnn.dense_assignment import TaskAlignedAssigner
from sparse_rcnn.image_proposals import ImageProposals
from sparse_rcnn.proposal_boxes import WholePictureBoxes

whole_picture = L(WholePictureBoxes)(num_proposals="${model.num_proposals}")

box_transformer = L(BoxTransformer)(
    num_proposals="${model.num_proposals}",
    start="picture",
    dim="${model.hidden_dim}",
    num_layers=2,
    num_heads=8,
    feedforward_dim=1024,
    dropout=0.1,
    position_encoding="sine",  # or "learned"
    feature_level=[1, 2, 3],  # one or more of p2..p5; lower is finer
    mlp_hidden_dim=256,
    mlp_num_layers=2,
    encode_boxes=True,
    refine_boxes=True,
    hand_on_queries=True,
)

image_proposals = L(ImageProposals)(
    num_proposals="${model.num_proposals}",
    num_classes="${model.num_classes}",
    dim="${model.hidden_dim}",
    num_convs=2,
    feature_level=None,  # all; or [1, 2, 3] of p2..p5: p2 alone takes three quarters of the time
    num_candidates=1000,
    nms_threshold=0.7,
    assigner=L(TaskAlignedAssigner)(top_k=8, alpha=0.5, beta=6.0),
    class_weight=1.0,
    giou_weight=2.0,
    focusing=2.0,
    prior_probability=0.01,
)
