"""What a model does with one image, as titled images: levels, proposals, stages, attention, activation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torchvision.ops import nms

from xray_lazy.data.image_detections import Drawn
from xray_lazy.data.image_reader import ImageReader, Reader
from xray_lazy.inspection.activation import class_activations, proposals_of
from xray_lazy.inspection.attention import attention_maps, recorded_attention
from xray_lazy.inspection.box_paths import draw_boxes, draw_paths, score_colours
from xray_lazy.inspection.heat_maps import draw_components, draw_heat
from xray_lazy.inspection.parts import ModelParts, Proposals, Stage
from xray_lazy.utils.wording import counted
from xray_lazy.visualization.overlay import (
    QUIET_COLOUR,
    class_colour,
    draw_instances,
    instances_of_prediction,
    resized,
)

MOST_PATHS, MOST_ATTENDING = 12, 4
APART = 0.5  # overlap from which of two proposals only the better one is drawn

Panels = list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Seen:
    """All that a model saw in one image.

    Attributes:
        image: `(H, W, 3)`, BGR, uint8, what people see of what the model got.
        padded_size: height and width of the input that the feature maps were made from.
        features: `(C, h, w)` of each level.
        attention: `(heads, queries, h, w)` by the attention's name.
        detections: of the image, in its pixels, without masks.
        shown: as `detections`, with masks and from the score threshold on.
        activations: `(H, W)`, by class.
    """

    image: np.ndarray
    padded_size: tuple[int, int]
    features: dict[str, torch.Tensor]
    proposals: Proposals
    stages: list[Stage]
    attention: dict[str, torch.Tensor]
    detections: Instances
    shown: Instances
    activations: dict[int, torch.Tensor]


def look(
    parts: ModelParts,
    sample: dict,
    score_threshold: float,
    with_activations: bool = True,
    reader: Reader | None = None,
) -> Seen:
    """Run a model in parts on one sample of the test mapper, which has read it with `reader`."""
    with torch.no_grad(), recorded_attention(parts.model) as attention:
        images = parts.prepare([sample])
        features = parts.backbone(images)
        proposals = parts.proposals(images, features)
        [stages] = parts.stages(images, features, proposals)
        [found] = parts.heads(images, features, proposals)
    found = found[found.scores >= score_threshold]
    maps = {name: attention_maps(weights, features) for name, weights in attention.items()}
    height, width = images.image_sizes[0]
    order = getattr(parts.model, "input_format", "BGR")
    image = (reader or ImageReader()).show(sample["image"].numpy().transpose(1, 2, 0), order)
    plain = Instances((height, width), pred_boxes=found.pred_boxes.clone(), scores=found.scores)
    plain.pred_classes = found.pred_classes
    return Seen(
        image,
        tuple(images.tensor.shape[-2:]),
        {name: level[0].cpu() for name, level in features.items()},
        proposals[0],
        stages,
        {name: weights[0].cpu() for name, weights in maps.items() if weights is not None},
        plain,
        detector_postprocess(found, height, width),
        class_activations(parts, [sample], [plain])[0] if with_activations and len(plain) else {},
    )


def detection_panels(seen: Seen, class_names: Sequence[str], factor: float) -> Panels:
    """The image and what was found in it."""
    drawn = draw_instances(seen.image, instances_of_prediction(seen.shown), class_names, factor)
    return [("image", resized(seen.image, factor)), (counted(len(seen.shown), "detection"), drawn)]


def level_panels(seen: Seen, class_names: Sequence[str], factor: float) -> Panels:
    """Each level of the feature maps: how far features are from their mean, and which places look alike."""
    panels = []
    for name, level in seen.features.items():
        own = _cut(level, seen)
        size = f"{level.shape[2]}x{level.shape[1]}"
        distance = (own - own.mean((1, 2), keepdim=True)).norm(dim=0).numpy()
        panels.append((f"{name}  {size}  distance from the mean", draw_heat(seen.image, distance, factor)))
        canvas = resized(seen.image, factor).shape[:2]
        panels.append((f"{name}  first components", draw_components(canvas, principal_components(own).numpy())))
    return panels


def proposal_panels(seen: Seen, class_names: Sequence[str], factor: float, top: int) -> Panels:
    """The best proposals by score, with and without their near doubles; without scores, as they start."""
    if seen.proposals.scores is not None:
        boxes, scores = seen.proposals.boxes, seen.proposals.scores
        apart = nms(boxes, scores, APART)[:top]
        of = f"of {len(boxes)} proposals"
        kept = [(f"{len(boxes[:top])} best {of}", slice(top)), (f"{len(apart)} {of} that overlap little", apart)]
        return [(title, _scored_boxes(seen.image, boxes[which], scores[which], factor)) for title, which in kept]
    layers, followed = seen.proposals.layers.cpu().numpy(), followed_proposals(seen)
    order = [place for place, _ in _followed_first(_best_first(seen)[:top].tolist(), followed)]
    classes = _final_classes(seen).tolist()
    colours = [class_colour(classes[place]) if place in followed else QUIET_COLOUR for place in order]
    of = f"{len(order)} of {layers.shape[1]} proposals"
    titles = [f"{of} after layer {number}" for number in range(1, len(layers) + 1)]
    titles = titles if len(layers) > 1 else [f"{of} as they start"]
    return [
        (title, draw_boxes(seen.image, layer[order], colours, factor))
        for title, layer in zip(titles, layers, strict=True)
    ]


def stage_panels(seen: Seen, class_names: Sequence[str], factor: float, top: int) -> Panels:
    """The paths of the boxes that were detected (else the best ones), and these and other good ones stage by stage."""
    if not seen.stages:
        return []
    order = _best_first(seen)[:top]
    followed = followed_proposals(seen)
    steps = torch.stack([seen.proposals.boxes, *(stage.boxes for stage in seen.stages)]).cpu().numpy()
    classes = _final_classes(seen)
    paths = draw_paths(seen.image, steps[:, followed], classes[followed].tolist(), factor)
    panels = [(f"paths of {len(followed)} boxes, grey: start", paths)]
    for number, stage in enumerate(seen.stages, start=1):
        best = stage.scores.max(1)
        drawn = [
            Drawn(
                int(best.indices[place]), tuple(stage.boxes[place].tolist()), float(best.values[place]), is_quiet=quiet
            )
            for place, quiet in _followed_first(order.tolist(), followed)
        ]
        title = f"stage {number} of {len(seen.stages)}, scores to {best.values.max():.2f}"
        panels.append((title, draw_instances(seen.image, drawn, class_names, factor, grey=True)))
    return panels


def attention_panels(seen: Seen, class_names: Sequence[str], factor: float) -> Panels:
    """Where the best proposals' queries look, the mean over an attention's heads, and where they moved their boxes."""
    if not seen.attention:
        return []
    classes, panels = _final_classes(seen), []
    for query in followed_proposals(seen)[:MOST_ATTENDING]:
        class_id = int(classes[query])
        for number, weights in enumerate(seen.attention.values()):
            heat = draw_heat(seen.image, _cut(weights[:, query], seen).mean(0).numpy(), factor)
            layer = min(number, len(seen.proposals.layers) - 1)
            box = Drawn(class_id, tuple(seen.proposals.layers[layer][query].tolist()), label="")
            name = class_names[class_id] if class_id < len(class_names) else f"class {class_id}"
            title = f"{name}: proposal {query}, layer {number + 1}"
            panels.append((title, _with_boxes(heat, [box], class_names, factor)))
    return panels


def activation_panels(seen: Seen, class_names: Sequence[str], factor: float) -> Panels:
    """For each detected class, what speaks for its detections (LayerCAM), with their boxes."""
    panels = []
    for class_id, values in seen.activations.items():
        found = instances_of_prediction(seen.detections[seen.detections.pred_classes == class_id])
        heat = draw_heat(seen.image, values.numpy(), factor, limits=(0.0, 1.0))
        name = class_names[class_id] if class_id < len(class_names) else f"class {class_id}"
        panels.append((f"what speaks for {name}", _with_boxes(heat, found, class_names, factor)))
    return panels


def followed_proposals(seen: Seen) -> list[int]:
    """The proposals that were detected, else those that came nearest to it; at most `MOST_PATHS`."""
    places = proposals_of(seen.stages[-1], seen.detections) if len(seen.detections) else _best_first(seen)
    return list(dict.fromkeys(places.tolist()))[:MOST_PATHS]


def principal_components(level: torch.Tensor) -> torch.Tensor:
    """The first three principal components of features `(C, h, w)` over their places, `(h, w, 3)`.

    The first one alone is EigenCAM (Muhammad and Yeasin, IJCNN 2020). Signs are such that no sum of cubes is negative.
    """
    places = level.flatten(1).T.double()
    places = places - places.mean(0)
    _, vectors = torch.linalg.eigh(places.T @ places)
    components = places @ vectors[:, -3:].flip(1)
    components = torch.where(components.pow(3).sum(0) < 0, -components, components)
    if components.shape[1] < 3:
        components = torch.nn.functional.pad(components, (0, 3 - components.shape[1]))
    return components.unflatten(0, level.shape[1:]).float()


def _scored_boxes(image: np.ndarray, boxes: torch.Tensor, scores: torch.Tensor, factor: float) -> np.ndarray:
    return draw_boxes(image, boxes.cpu().numpy(), score_colours(scores.cpu().numpy()), factor)


def _followed_first(order: Sequence[int], followed: Sequence[int]) -> list[tuple[int, bool]]:
    """Proposals, each once, and whether they stay in the background."""
    return [(place, False) for place in followed] + [(place, True) for place in order if place not in followed]


def _with_boxes(canvas: np.ndarray, found: Sequence[Drawn], class_names: Sequence[str], factor: float) -> np.ndarray:
    """Boxes in pixels of the image on a canvas that is `factor` times as large."""
    scaled = [
        Drawn(one.class_id, tuple(factor * edge for edge in one.box), one.score, label=one.label) for one in found
    ]
    return draw_instances(canvas, scaled, class_names, 1)


def _final_classes(seen: Seen) -> torch.Tensor:
    """The best class of each proposal in the end, `(N,)`."""
    return seen.stages[-1].scores.argmax(1).cpu()


def _best_first(seen: Seen) -> torch.Tensor:
    """The proposals by their best score in the end."""
    return seen.stages[-1].scores.max(1).values.argsort(descending=True).cpu()


def _cut(level: torch.Tensor, seen: Seen) -> torch.Tensor:
    """A map `(..., h, w)` without the cells of the padding."""
    height, width = seen.image.shape[:2]
    rows = max(1, round(level.shape[-2] * height / seen.padded_size[0]))
    columns = max(1, round(level.shape[-1] * width / seen.padded_size[1]))
    return level[..., :rows, :columns]
