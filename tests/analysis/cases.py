"""Ground truths and detections whose figures can be counted by hand."""

from pathlib import Path

from pycocotools import mask as mask_util

from xray_lazy.analysis.inputs import Inputs

GUN, KNIFE = 2, 5
CATEGORIES = [{"id": GUN, "name": "gun"}, {"id": KNIFE, "name": "knife"}]


def thing(image, category, box, **more):
    return {"image_id": image, "category_id": category, "bbox": [float(value) for value in box], **more}


def with_mask(one, height=100, width=100):
    """The box as mask, too."""
    x, y, w, h = one["bbox"]
    code = mask_util.merge(mask_util.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + h]], height, width))
    return {**one, "segmentation": {"size": code["size"], "counts": code["counts"].decode()}}


def inputs_of(annotations, detections, images=4, masks=False, scanners=None, **more):
    """Inputs of images 1, 2, ... of 100x100 pixels; annotations get the ids 1, 2, ... and the area of their box."""
    annotations = [
        {"id": number, "iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3], **one}
        for number, one in enumerate(annotations, 1)
    ]
    if masks:
        annotations, detections = [with_mask(one) for one in annotations], [with_mask(one) for one in detections]
    entries = [
        {
            "id": number,
            "width": 100,
            "height": 100,
            "file_name": f"bag_{number}.png",
            "scanner": scanners[number - 1] if scanners else "smith",
        }
        for number in range(1, images + 1)
    ]
    truth = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
    given = {"dataset": "bags", "origin": "here", "evaluation": "one", "max_detections": 100, "folder": Path("out")}
    return Inputs(**(given | {"ground_truth": truth, "detections": detections} | more))


def every_error():
    """One image with each of TIDE's errors, and a second with an item that is found."""
    annotations = [
        thing(1, GUN, (0, 0, 20, 20)),
        thing(1, KNIFE, (40, 0, 20, 20)),
        thing(1, GUN, (0, 40, 20, 20)),
        thing(1, KNIFE, (40, 40, 20, 20)),
        thing(1, GUN, (80, 80, 20, 20)),
        thing(2, GUN, (10, 10, 30, 30)),
    ]
    detections = [
        thing(1, GUN, (0, 0, 20, 20), score=0.95),  # right
        thing(1, GUN, (0, 0, 20, 20), score=0.90),  # found once more
        thing(1, GUN, (40, 0, 20, 20), score=0.85),  # a knife there
        thing(1, GUN, (0, 50, 20, 20), score=0.80),  # IoU 1/3 with the gun
        thing(1, GUN, (40, 50, 20, 20), score=0.75),  # IoU 1/3 with the knife
        thing(1, KNIFE, (80, 0, 10, 10), score=0.70),  # nothing there
        thing(2, GUN, (10, 10, 30, 30), score=0.65),  # right
    ]
    return annotations, detections
