"""VOC's AP50 equals that of detectron2's code for VOC, which came from the devkit, on files of its form."""

import numpy as np
import pytest
from detectron2.evaluation.pascal_voc_evaluation import voc_eval

from xray_lazy.evaluation.screening.bags import BoxesOfImage
from xray_lazy.evaluation.voc_ap import voc_precisions

pytestmark = pytest.mark.fast
CLASSES = 2


def drawn_images(random, count=6):
    """Items that overlap, some of them difficult; detections near them, among them several of one item."""
    images = []
    for number in range(count):
        items = random.integers(0, 40, size=(random.integers(0, 5), 4)) + [0, 0, 10, 10]
        near = items[random.integers(len(items), size=8)] if len(items) else np.zeros((0, 4), int)
        far = random.integers(0, 40, size=(3, 4)) + [0, 0, 10, 10]
        boxes = np.concatenate([near + random.integers(-4, 5, size=near.shape), far])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
        images.append(
            BoxesOfImage(
                number,
                items.astype(float).reshape(-1, 4),
                random.integers(CLASSES, size=len(items)),
                random.random(len(items)) < 0.2,
                boxes.astype(float),
                random.integers(CLASSES, size=len(boxes)),
                random.random(len(boxes)),
            )
        )
    return images


def as_files(folder, images):
    """VOC's corners are pixels inside of a box, so that its area counts one pixel more on each side."""
    folder.mkdir()
    (folder / "all.txt").write_text("".join(f"{image.bag}\n" for image in images))
    found = dict.fromkeys(range(CLASSES), "")
    for image in images:
        objects = "".join(
            f"<object><name>{k}</name><pose/><truncated>0</truncated><difficult>{int(crowd)}</difficult><bndbox>"
            f"<xmin>{x:.0f}</xmin><ymin>{y:.0f}</ymin><xmax>{x + w - 1:.0f}</xmax><ymax>{y + h - 1:.0f}</ymax>"
            "</bndbox></object>"
            for k, crowd, (x, y, w, h) in zip(image.item_classes, image.crowd, image.items, strict=True)
        )
        (folder / f"{image.bag}.xml").write_text(f"<annotation>{objects}</annotation>")
        for k, score, (x, y, w, h) in zip(image.classes, image.scores, image.boxes, strict=True):
            found[int(k)] += f"{image.bag} {score!r} {x} {y} {x + w - 1} {y + h - 1}\n".replace("np.float64", "")
    for k, lines in found.items():
        (folder / f"found_{k}.txt").write_text(lines.replace("(", "").replace(")", ""))


@pytest.mark.parametrize("seed", range(12))
def test_it_is_that_of_the_reference(tmp_path, seed):
    images = drawn_images(np.random.default_rng(seed))
    as_files(tmp_path / "voc", images)
    files = [str(tmp_path / "voc" / name) for name in ("found_{}.txt", "{}.xml", "all.txt")]
    for is_eleven, values in zip((True, False), voc_precisions(images, CLASSES), strict=True):
        for k in range(CLASSES):
            items = sum(int((image.item_classes[~image.crowd] == k).sum()) for image in images)
            if items:
                *_, expected = voc_eval(*files, str(k), ovthresh=0.5, use_07_metric=is_eleven)
                assert values[k] == pytest.approx(expected, abs=1e-12)
            else:
                assert np.isnan(values[k])


def image(items, detections):
    return BoxesOfImage(
        0,
        np.array(items, float).reshape(-1, 4),
        np.zeros(len(items), int),
        np.zeros(len(items), bool),
        np.array([box for box, _ in detections], float).reshape(-1, 4),
        np.zeros(len(detections), int),
        np.array([score for _, score in detections], float),
    )


def test_a_detection_of_an_item_that_is_taken_is_wrong_though_another_would_be_free():
    # the second is nearer to the first item; COCO would give it the other one, with which its IoU is 0.6, too
    items = [(0, 0, 10, 10), (2, 0, 10, 10)]
    found = [((0, 0, 10, 10), 0.9), ((0.5, 0, 10, 10), 0.8)]
    assert [values[0] for values in voc_precisions([image(items, found)], 1)] == pytest.approx([6 / 11, 0.5])


def test_without_detections_it_is_0_and_without_items_nothing():
    assert [values.tolist() for values in voc_precisions([image([(0, 0, 9, 9)], [])], 1)] == [[0], [0]]
    assert np.isnan(voc_precisions([image([], [((0, 0, 9, 9), 0.5)])], 2)).all()
    assert np.isnan(voc_precisions([], 1)).all()
