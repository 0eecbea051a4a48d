"""Generated bags from above and from the side: one volume, whose two views share the belt's axis."""

import numpy as np
import pytest

from tests.data.test_synthetic_sets import fingerprints
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.synthetic import CLASS_NAMES
from xray_lazy.data.synthetic.edge_on import Depth, depth_extent, draw_edge_on
from xray_lazy.data.synthetic.generate import generate_export, generate_set
from xray_lazy.data.synthetic.items import make_item
from xray_lazy.data.synthetic.materials import PLASTIC
from xray_lazy.data.synthetic.object_parts import Part, Pose, draw
from xray_lazy.data.synthetic.outlines import rectangle
from xray_lazy.data.synthetic.profiles import PROFILES
from xray_lazy.data.synthetic.two_views import compose_views
from xray_lazy.errors import UserError

SIZE = (200, 200)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_both_views_of_an_item_have_the_same_mass_in_each_column(name):
    rng = np.random.default_rng(3)
    parts = make_item(name, rng)
    pose = Pose.make(4, 30, squeeze=0.8, along=20).at(100, 100)
    depth = Depth.of_tilt(pose, 1).at(100)
    masses = []
    for patch in (draw(parts, pose, SIZE, rng, 4), draw_edge_on(parts, pose, depth, SIZE, 4)):
        whole = np.zeros((2, *SIZE))
        whole[(slice(None), *patch.window)] = patch.attenuation
        masses.append(whole.sum(axis=1))
    textured = any(part.texture for part in parts)
    np.testing.assert_allclose(masses[1], masses[0], rtol=0.2 if textured else 1e-3, atol=0.05 * masses[0].max())
    np.testing.assert_allclose(masses[1].sum(), masses[0].sum(), rtol=0.1 if textured else 0.01)


def test_a_block_is_seen_from_the_side_with_its_length_and_thickness():
    block = [Part(rectangle(10, 4), PLASTIC, 2.0)]
    pose = Pose.make(4).at(100, 60)
    patch = draw_edge_on(block, pose, Depth(90), SIZE, 2)
    rows, columns = np.nonzero(patch.silhouette)
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (40, 8)
    assert rows.mean() + patch.top + 0.5 == 90 and columns.mean() + patch.left + 0.5 == 100
    # the beam passes its 4 cm
    np.testing.assert_allclose(patch.attenuation[:, 2, 20], PLASTIC.attenuation(4), rtol=0.04)


def test_a_tilted_block_rises_as_far_as_it_looks_shorter():
    block = [Part(rectangle(10, 2), PLASTIC, 0.1)]
    pose = Pose.make(4, squeeze=0.6, along=0).at(100, 100)
    for sign in (1, -1):
        depth = Depth.of_tilt(pose, sign).at(100)
        low, high = depth_extent(block, pose, depth)
        assert high - low == pytest.approx(40 * 0.8 + 0.1 * 4 / 0.6)
        patch = draw_edge_on(block, pose, depth, SIZE, 4)
        assert patch.silhouette.shape[0] == pytest.approx(33, abs=2)


def test_items_lie_between_the_same_places_of_the_belt_and_inside_the_image():
    profile = PROFILES["demo"]
    for seed in range(6):
        top, side = compose_views(profile, CLASS_NAMES[:5], np.random.default_rng(seed), "gun")
        assert [name for name, _ in top.items] == [name for name, _ in side.items] and top.items[0][0] == "gun"
        for (_, one), (_, other) in zip(top.items, side.items, strict=True):
            columns = [patch.left + np.flatnonzero(patch.silhouette.any(axis=0))[[0, -1]] for patch in (one, other)]
            np.testing.assert_allclose(columns[0], columns[1], atol=2)
        np.testing.assert_allclose(top.attenuation.sum(), side.attenuation.sum(), rtol=0.02)
    empty = compose_views(profile, CLASS_NAMES, np.random.default_rng(0), None)
    assert [view.items for view in empty] == [[], []]


def test_a_set_names_bags_and_views_and_is_sound_and_repeatable(tmp_path):
    for root, workers in (("one", 1), ("two", 2)):
        made = generate_set(tmp_path / root, "demo", {"train": 9}, ("gun", "knife"), 1, workers, views=2)
    assert fingerprints(tmp_path / "one") == fingerprints(tmp_path / "two")
    images = read_coco(made["train"])["images"]
    assert [(one["bag"], one["view"]) for one in images[:2]] == [("train_000001", "top"), ("train_000001", "side")]
    report = check_sets(open_sets([str(made["train"]), str(tmp_path / "two/images/demo/train")]))
    kinds = {finding.kind for finding in report.sets[0].findings}
    assert kinds <= {"picture_without_annotations"} and report.sets[0].bags.bags == {2: 9}
    file, _ = generate_export(tmp_path, "demo", 2, workers=1, views=2, raw=True)
    assert [one["file_name"] for one in read_coco(file)["images"]][:2] == [
        "synthetic_export_000001_top_low.png",
        "synthetic_export_000001_side_low.png",
    ]
    with pytest.raises(UserError, match="3 views of a bag can't be generated"):
        generate_set(tmp_path, "demo", {"train": 1}, views=3)
