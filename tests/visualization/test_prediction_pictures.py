"""The images written at the end of a training."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.visualization.prediction_images import evenly_spaced, save_prediction_images


def write_scans(folder, sizes):
    """Scans with one gun each, and a model's finding of it."""
    pairs = []
    for number, (height, width) in enumerate(sizes):
        path = folder / f"bag_{number}.png"
        cv2.imwrite(str(path), np.full((height, width, 3), 240, np.uint8))
        box = [width * 0.3, height * 0.3, width * 0.3, height * 0.4]
        annotation = {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0}
        record = {"file_name": str(path), "height": height, "width": width, "annotations": [annotation]}
        instances = Instances((height, width))
        instances.pred_boxes = Boxes(torch.tensor([[box[0], box[1], box[0] + box[2], box[1] + box[3]]] * 2))
        instances.pred_classes, instances.scores = torch.tensor([0, 1]), torch.tensor([0.9, 0.2])
        pairs.append((record, instances))
    return pairs


def test_each_scan_gets_a_image_and_all_get_a_sheet(tmp_path):
    pairs = write_scans(tmp_path, [(192, 320), (800, 900), (550, 227)])
    paths = save_prediction_images(iter(pairs), ("gun", "knife"), tmp_path / "visualizations")
    assert [p.name for p in paths] == ["000_bag_0.jpg", "001_bag_1.jpg", "002_bag_2.jpg", "contact_sheet.jpg"]
    assert sorted((tmp_path / "visualizations").iterdir()) == paths
    shapes = [cv2.imread(str(path)).shape for path in paths]
    assert shapes[0][1] > 2 * 960 and shapes[1][1] > 2 * 900
    assert all(height > 100 for height, _, _ in shapes)


def test_predictions_below_the_threshold_are_not_drawn(tmp_path):
    pairs = write_scans(tmp_path, [(800, 900)])
    images = {}
    for threshold in (0.1, 0.5, 0.95):
        path = save_prediction_images(pairs, ("gun", "knife"), tmp_path / str(threshold), threshold)[0]
        images[threshold] = cv2.imread(str(path))[:, 910:]
    coloured = {t: (np.ptp(p.astype(int), axis=2) > 60).sum() for t, p in images.items()}
    assert coloured[0.95] == 0 < coloured[0.5] < coloured[0.1]


def test_no_predictions_write_nothing(tmp_path):
    assert save_prediction_images([], ("gun",), tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_an_unreadable_scan_is_named(tmp_path):
    pairs = write_scans(tmp_path, [(192, 320)])
    (tmp_path / "bag_0.png").write_bytes(b"not an image")
    with pytest.raises(UnreadableImage, match="bag_0"):
        save_prediction_images(pairs, ("gun",), tmp_path / "out")


def test_evenly_spaced_takes_from_the_whole_length():
    assert evenly_spaced(range(100), 4) == [0, 25, 50, 75]
    assert evenly_spaced("abc", 8) == ["a", "b", "c"]
    assert evenly_spaced([], 3) == []
