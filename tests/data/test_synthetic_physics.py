"""The synthetic scanner: attenuation, colours, silhouettes."""

import colorsys

import cv2
import numpy as np
import pytest

from xray_lazy.data.synthetic import CLASS_NAMES
from xray_lazy.data.synthetic.beam_detector import measure, pseudo_colour, transmission
from xray_lazy.data.synthetic.drawn_annotations import make_annotation, outlines, run_lengths
from xray_lazy.data.synthetic.items import make_item
from xray_lazy.data.synthetic.materials import ALUMINIUM, PLASTIC, STEEL, WATER
from xray_lazy.data.synthetic.object_parts import Part, Pose, draw
from xray_lazy.data.synthetic.outlines import ellipse, rectangle
from xray_lazy.data.synthetic.profiles import PROFILES
from xray_lazy.data.synthetic.scene import compose

mask_api = pytest.importorskip("pycocotools.mask")


def colour_of(material, thickness: float, scanner: str) -> tuple[float, float]:
    """Hue in degrees and brightness of a large noiseless sheet."""
    sheet = np.stack([np.full((9, 9), value, np.float32) for value in material.attenuation(thickness)])
    blue, green, red = pseudo_colour(sheet, PROFILES[scanner])[4, 4] / 255
    hue, _, _ = colorsys.rgb_to_hsv(red, green, blue)
    return 360 * hue, float(red + green + blue)


@pytest.mark.parametrize("scanner", PROFILES)
def test_plastic_is_orange_aluminium_green_and_steel_blue(scanner):
    assert 15 < colour_of(PLASTIC, 3, scanner)[0] < 50
    assert 70 < colour_of(ALUMINIUM, 1, scanner)[0] < 170
    assert 195 < colour_of(STEEL, 0.3, scanner)[0] < 250


@pytest.mark.parametrize("material, thickest", [(WATER, 20), (ALUMINIUM, 8), (STEEL, 1)])
def test_more_thickness_is_darker(material, thickest):
    brightness = [colour_of(material, thickest * share, "astrophysics")[1] for share in (0.01, 0.05, 0.2, 0.5, 1)]
    assert brightness == sorted(brightness, reverse=True)
    assert len(set(brightness)) == len(brightness)


def test_steel_of_two_centimetres_is_nearly_black():
    assert colour_of(STEEL, 2.0, "demo")[1] < 0.35


def test_overlapping_objects_pass_the_product_of_what_each_passes():
    steel, water = Part(rectangle(4, 4), STEEL, 0.1), Part(rectangle(4, 4), WATER, 2.0)
    pose, rng = Pose.make(5).at(20, 20), np.random.default_rng(0)
    alone = [transmission(draw([part], pose, (40, 40), rng).attenuation) for part in (steel, water)]
    together = transmission(draw([steel, water], pose, (40, 40), rng).attenuation)
    np.testing.assert_allclose(together, alone[0] * alone[1], rtol=1e-5)
    assert together.min() == pytest.approx(np.exp(-(7.87 * 0.1 * 1.205 + 2.0 * 0.2059)), rel=1e-4)


def test_a_cylinder_is_thickest_along_its_axis_and_a_tube_at_its_walls():
    pose, rng = Pose.make(10).at(50, 50), np.random.default_rng(0)
    solid, tube = (
        draw([Part(rectangle(9, 4), WATER, 4.0, profile, wall=0.4)], pose, (100, 100), rng).attenuation[1]
        for profile in ("round", "shell")
    )
    middle, wall = solid.shape[0] // 2, 3
    column = solid.shape[1] // 2
    assert solid[middle, column] > 2 * solid[1, column]
    assert solid[middle, column] == pytest.approx(4.0 * 0.1707, rel=0.05)
    assert tube[middle, column] == pytest.approx(0.8 * 0.1707, rel=0.15)
    assert tube[wall, column] > 1.5 * tube[middle, column]


def test_noise_grows_relative_to_what_passes():
    profile, rng = PROFILES["astrophysics"], np.random.default_rng(0)
    spread = []
    for attenuation in (0.0, 2.0, 4.0):
        measured = measure(np.full((2, 200, 200), attenuation, np.float32), profile, rng)
        assert measured.mean() == pytest.approx(attenuation, abs=0.05)
        spread.append(np.diff(measured[1], axis=1).std())
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("supersampling", [1, 2, 3])
def test_a_silhouette_keeps_holes_and_covers_the_area_of_its_outline(supersampling):
    ring = Part(ellipse(10, 10), STEEL, 0.3, holes=[ellipse(6, 6)])
    patch = draw([ring], Pose.make(6).at(40.3, 39.8), (80, 80), np.random.default_rng(0), supersampling)
    canvas = np.zeros((80, 80), bool)
    canvas[patch.window] = patch.silhouette
    assert not canvas[30:50, 30:50].any()
    area, perimeter = np.pi * (5**2 - 3**2) * 6**2, 2 * np.pi * (5 + 3) * 6
    assert canvas.sum() == pytest.approx(area, abs=0.5 * perimeter)


@pytest.mark.parametrize("name", CLASS_NAMES)
@pytest.mark.parametrize("scanner", ["demo", "smith"])
def test_every_class_absorbs_exactly_where_its_mask_is(name, scanner):
    profile, rng = PROFILES[scanner], np.random.default_rng(CLASS_NAMES.index(name))
    width, height = profile.size
    for _ in range(4):
        pose = Pose.make(profile.pixels_per_cm, rng.uniform(0, 360), squeeze=rng.uniform(profile.tilt, 1))
        patch = draw(make_item(name, rng), pose.at(width / 2, height / 2), profile.size, rng, profile.supersampling)
        absorbs = patch.attenuation[1] > 0
        assert patch.silhouette.sum() > 15
        assert absorbs[patch.silhouette].all()
        if profile.supersampling == 1:
            assert np.array_equal(absorbs, patch.silhouette)
        # Finer drawing leaves attenuation outside only in pixels that the outline crosses.
        grown = cv2.dilate(patch.silhouette.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (absorbs & ~grown).sum() <= 0.02 * patch.silhouette.sum() + 2


def test_the_classes_have_shapes_of_their_own():
    """Filled share of the box, elongation and holes: no two classes look alike in all three and in material."""
    descriptions = {}
    for name in CLASS_NAMES:
        rng, rows = np.random.default_rng(5), []
        for _ in range(12):
            patch = draw(make_item(name, rng), Pose.make(12).at(250, 250), (500, 500), rng)
            mask = patch.silhouette.astype(np.uint8)
            contour = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
            (_, sides, _) = cv2.minAreaRect(contour)
            filled = mask.sum() / max(1.0, sides[0] * sides[1])
            low, high = (plane[patch.silhouette].sum() for plane in patch.attenuation)
            rows.append(
                [filled * 4, np.log(max(sides) / min(sides)) * 2, np.log(mask.sum()), low / high * 2, np.log(high)]
            )
        descriptions[name] = np.median(rows, axis=0)
    for first in CLASS_NAMES:
        for second in CLASS_NAMES[: CLASS_NAMES.index(first)]:
            assert np.abs(descriptions[first] - descriptions[second]).max() > 0.4, (first, second)


def test_run_lengths_are_the_silhouette_and_box_and_area_follow_from_it():
    profile, rng = PROFILES["demo"], np.random.default_rng(3)
    scene = compose(profile, CLASS_NAMES, rng, "scissors")
    for name, patch in scene.items:
        annotation = make_annotation(patch, 1, profile.size)
        canvas = np.zeros(profile.size[::-1], np.uint8)
        canvas[patch.window] = patch.silhouette
        assert np.array_equal(mask_api.decode(annotation["segmentation"]), canvas), name
        assert annotation["area"] == canvas.sum()
        assert annotation["bbox"] == mask_api.toBbox(annotation["segmentation"]).tolist()


@pytest.mark.parametrize("name", ["knife", "battery", "bottle", "hammer"])
def test_polygons_follow_outlines_without_holes_closely(name):
    profile, rng = PROFILES["smith"], np.random.default_rng(1)
    size = profile.size
    pose = Pose.make(profile.pixels_per_cm, 33).at(size[0] / 2, size[1] / 2)
    patch = draw(make_item(name, rng), pose, size, rng)
    exact = run_lengths(patch, size)
    drawn = mask_api.merge(mask_api.frPyObjects(outlines(patch), size[1], size[0]))
    assert mask_api.iou([drawn], [exact], [0])[0, 0] > 0.97


def test_a_bag_without_items_has_no_masks_and_one_with_items_has_them_inside_the_image():
    profile = PROFILES["demo"]
    assert compose(profile, CLASS_NAMES, np.random.default_rng(0), None).items == []
    for seed in range(20):
        scene = compose(profile, CLASS_NAMES[:5], np.random.default_rng(seed), "gun")
        assert 1 <= len(scene.items) <= profile.most_items
        assert scene.items[0][0] == "gun"
        for _, patch in scene.items:
            assert patch.silhouette.any()
            assert scene.attenuation[(1, *patch.window)][patch.silhouette].min() > 0
