"""Files of any bits and channels become what a model sees and what people see, or are refused with the reason."""

import pickle
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T

from xray_lazy.config import apply_overrides, get_config
from xray_lazy.data.augmentation.recording import RandomJpeg
from xray_lazy.data.image_files.image_bytes import MissingImage, UnreadableImage
from xray_lazy.data.image_files.image_file import image_size, read_image, read_samples
from xray_lazy.data.image_reader import ImageReader, read_record
from xray_lazy.data.likely_reader import picture
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.picture_cache import PictureCache
from xray_lazy.errors import UserError

HEIGHT, WIDTH = 24, 36
ORANGE, GREEN, BLUE = "orange", "green", "blue"


def samples(channels, dtype=np.uint16, most=4095):
    values = np.random.default_rng(channels).integers(0, most + 1, (HEIGHT, WIDTH, channels))
    return values.astype(dtype)


def save(path: Path, image: np.ndarray, **options) -> Path:
    if path.suffix == ".npy":
        np.save(path, image)
    elif options:
        tifffile.imwrite(path, image, **options)
    else:
        cv2.imwrite(str(path), image)
    return path


STACK = {"photometric": "minisblack"}


@pytest.mark.parametrize("channels", [2, 3, 4, 5, 7])
@pytest.mark.parametrize(
    ("suffix", "first", "options"),
    [
        (".npy", False, {}),
        (".npy", True, {}),
        (".tif", False, {**STACK, "planarconfig": "contig"}),
        (".tif", True, STACK),
        (".tif", True, {**STACK, "planarconfig": "separate", "compression": "zlib"}),
        (".tiff", True, {**STACK, "metadata": None}),
    ],
)
def test_any_number_of_channels_is_read_as_it_is_stored(tmp_path, channels, suffix, first, options):
    image = samples(channels)
    file = save(tmp_path / f"bag{suffix}", image.transpose(2, 0, 1) if first else image, **options)
    assert image_size(file) == (WIDTH, HEIGHT)
    assert np.array_equal(read_samples(file), image) and read_samples(file).dtype == np.uint16


@pytest.mark.parametrize("name", ["bag.png", "bag.tif"])  # OpenCV's TIFFs are compressed by LZW
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_colours_have_all_their_bits_and_the_order_that_is_asked_for(tmp_path, name, dtype):
    most = np.iinfo(dtype).max
    for channels in (1, 3):
        file, image = tmp_path / f"{channels}{name}", samples(channels, dtype, most)
        cv2.imwrite(str(file), image)
        assert np.array_equal(read_samples(file), image)
        assert np.array_equal(read_samples(file, "RGB"), image[:, :, ::-1])


def test_transparency_is_no_channel_and_a_turned_tiff_is_upright(tmp_path):
    colours = samples(3)
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([colours, colours[:, :, :1]]))
    assert np.array_equal(read_samples(tmp_path / "a.png"), colours)
    tifffile.imwrite(tmp_path / "turned.tif", colours[:, :, 0], extratags=[(274, 3, 1, 6, True)])
    assert image_size(tmp_path / "turned.tif") == (HEIGHT, WIDTH)
    assert np.array_equal(read_samples(tmp_path / "turned.tif")[:, :, 0], np.rot90(colours[:, :, 0], 3))


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (np.zeros((2, 3, 4, 5)), "its shape is 2x3x4x5"),
        (np.zeros((4, 5), complex), "are no numbers"),
        (np.full((4, 5), np.nan), "not finite"),
        (np.zeros((0, 5)), "no pixels"),
        (np.array([{}], object), "can't be read"),
    ],
)
def test_an_array_that_is_no_image_is_refused_with_the_reason(tmp_path, image, why):
    np.save(tmp_path / "bag.npy", image, allow_pickle=True)
    with pytest.raises(UnreadableImage, match=why):
        read_samples(tmp_path / "bag.npy")


@pytest.mark.parametrize("name", ["bag.npy", "bag.tif"])
def test_files_that_are_cut_off_gone_or_something_else_are_told(tmp_path, name):
    file = tmp_path / name
    with pytest.raises(MissingImage):
        read_samples(file)
    file.write_bytes(b"some text")
    with pytest.raises(UnreadableImage, match=r"no \.npy file|not an image"):
        read_samples(file)
    save(file, samples(1), photometric="minisblack")
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(UnreadableImage):
        read_samples(file)


def test_a_tiff_by_name_alone_is_read_as_what_it_is(tmp_path):
    cv2.imwrite(str(tmp_path / "bag.png"), samples(3, np.uint8, 255))
    (tmp_path / "bag.png").rename(tmp_path / "bag.tif")
    assert image_size(tmp_path / "bag.tif") == (WIDTH, HEIGHT)
    assert np.array_equal(read_samples(tmp_path / "bag.tif"), samples(3, np.uint8, 255))


def test_a_window_and_a_gain_are_what_they_say(tmp_path):
    file = save(tmp_path / "bag.png", np.array([[100, 600, 1100, 3000, 0]], np.uint16))
    seen = ImageReader(1, [100, 1100]).read(file)
    assert seen.dtype == np.float32 and seen[0, :, 0] == pytest.approx([0, 127.5, 255, 255, 0])
    assert ImageReader(1, [100, 1100], gain=0.5).read(file)[0, :3, 0] == pytest.approx([0, 63.75, 127.5])
    # of detectors that count down
    assert ImageReader(1, [1100, 100]).read(file)[0, :, 0] == pytest.approx([255, 127.5, 0, 0, 255])


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32])
def test_attenuations_add_up(tmp_path, dtype):
    counts = np.array([[40000, 20000, 10000, 0, 50000]], dtype)
    seen = ImageReader(1, [0, 40000], log_attenuation=True, deepest=7).read(save(tmp_path / "bag.npy", counts))
    once = np.log(2) / 7 * 255
    assert seen[0, :, 0] == pytest.approx([0, once, 2 * once, 255, 0], abs=1e-3)


def test_two_files_are_stacked_each_with_its_own_window(tmp_path):
    (tmp_path / "low").mkdir()
    (tmp_path / "high").mkdir()
    low, high = samples(1), samples(1) // 2
    save(tmp_path / "low" / "a low bag.png", low)
    save(tmp_path / "high" / "a low bag.png", high)
    reader = ImageReader(2, [[0, 4095], [0, 2047]], more_files=[["low/", "high/"]])
    seen = reader.read(tmp_path / "low" / "a low bag.png")
    assert seen == pytest.approx(np.dstack([low / 4095, high / 2047]).astype(np.float32) * 255, abs=1e-3)
    assert reader.files(tmp_path / "low" / "a low bag.png")[1] == tmp_path / "high" / "a low bag.png"


def test_a_further_file_that_is_missing_or_of_another_size_is_named(tmp_path):
    reader = ImageReader(2, [0, 4095], more_files=[["_low", "_high"]])
    file = save(tmp_path / "bag_low.png", samples(1))
    with pytest.raises(MissingImage, match=r"bag_high\.png does not exist"):
        reader.read(file)
    save(tmp_path / "bag_high.png", samples(1)[:-1])
    with pytest.raises(UnreadableImage, match=r"bag_high.png is 36x23, but .*bag_low.png, which .* is 36x24"):
        reader.read(file)
    with pytest.raises(UserError, match="has no '_low'"):
        reader.read(tmp_path / "bag_high.png")


def test_another_number_of_channels_than_the_readers_is_told_with_the_fix(tmp_path):
    with pytest.raises(UserError) as raised:
        ImageReader(2, [0, 4095]).read(save(tmp_path / "bag.npy", samples(5)))
    assert "has 5 channels, dataloader.reader.channels is 2" in raised.value.message
    assert "dataloader.reader.channels=5" in raised.value.fix


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 1}, "window is null"),
        ({"more_files": [["_low", "_high"]]}, "window is null"),
        ({"gain": [1, 1, 2]}, "window is null, .* whatever dataloader.reader.gain says"),
        ({"log_attenuation": True}, "window is null, .* whatever dataloader.reader.log_attenuation says"),
        ({"channels": 2, "window": [5, 5]}, "holds nothing"),
        ({"channels": 2, "window": [[0, 1]]}, "for 2 channels"),
        ({"channels": 2, "window": [0, 1, 2]}, "for 2 channels"),
        ({"channels": 2, "window": "all"}, "for 2 channels"),
        ({"channels": 2, "window": [0, 1], "gain": [1, 1, 1]}, "gain is"),
        ({"channels": 2, "window": [0, 1], "more_files": ["_low"]}, "more_files is"),
        ({"channels": 2, "window": [0, 1], "shown": [2]}, "shown is"),
        ({"channels": 2, "window": [0, 1], "shown": []}, "shown is"),
    ],
)
def test_settings_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        ImageReader(**arguments)


def test_without_a_window_8_bit_colours_are_as_ever(tmp_path):
    file = save(tmp_path / "bag.png", samples(3, np.uint8, 255))
    reader = ImageReader()
    for order in ("BGR", "RGB"):
        assert np.array_equal(reader.read(file, order), read_image(file, order))
        assert np.array_equal(reader.show(reader.read(file, order), order), read_image(file))
    assert np.array_equal(picture(file), read_image(file)) and not reader.fingerprint()
    with pytest.raises(UnreadableImage, match=r"dataloader\.reader\.window"):
        reader.read(save(tmp_path / "bag.npy", samples(2)))


def colour_of(pixel: np.ndarray) -> str:
    blue, green, red = pixel.astype(int)
    if red > green + 20 > blue + 40:
        return ORANGE
    return BLUE if blue > max(green, red) + 20 else GREEN if green > max(blue, red) + 20 else str(pixel)


@pytest.mark.parametrize("log_attenuation", [False, True])
def test_people_see_two_energies_as_a_scanner_shows_them(tmp_path, log_attenuation):
    # organic, mixed and metal absorb 1.2, 1.65 and 2.8 times as much at the low energy; the rest is air
    high = np.zeros((60, 80))
    low = np.zeros((60, 80))
    for place, ratio in enumerate((1.2, 1.65, 2.8)):
        columns = slice(20 * place, 20 * place + 20)
        high[:, columns], low[:, columns] = 1.0, ratio
    counts = np.rint(60000 * np.exp(-np.dstack([low, high]))).astype(np.uint16)
    file = save(tmp_path / "bag.npy", counts)
    shown = picture(file, ImageReader(2, [0, 60000], log_attenuation=log_attenuation))
    assert shown.dtype == np.uint8 and shown.shape == (60, 80, 3)
    assert [colour_of(shown[30, 20 * place + 10]) for place in range(3)] == [ORANGE, GREEN, BLUE]
    assert shown[30, 75].min() > 250


def test_people_see_one_channel_as_windowed_grey_with_bright_air(tmp_path):
    file = save(tmp_path / "bag.png", np.array([[400, 4000]] * 4, np.uint16))
    for log_attenuation in (False, True):
        shown = picture(file, ImageReader(1, [0, 4000], log_attenuation=log_attenuation))
        assert (shown[:, 1] == 255).all() and (shown[:, 0] < 180).all()
        assert (shown == shown[:, :, :1]).all()


def test_without_a_reader_people_see_the_range_of_the_file_and_both_energies_by_their_names(tmp_path):
    low, high = tmp_path / "bag_low.png", tmp_path / "bag_high.png"
    counts = np.full((40, 60), 4000, np.uint16)
    counts[:, :20] = 4000 * np.exp(-2.8)
    save(low, counts)
    assert picture(low)[20, 50].tolist() == [255, 255, 255]  # 12 bits in 16
    save(high, np.where(counts < 4000, 4000 * np.exp(-1.0), 4000).astype(np.uint16))
    for file in (low, high):
        assert colour_of(picture(file)[20, 10]) == BLUE


def test_the_cache_gives_the_same_floats_for_each_setting_and_notices_a_changed_further_file(tmp_path):
    file, other = tmp_path / "bag_low.png", tmp_path / "bag_high.png"
    save(file, samples(1)), save(other, samples(1) // 2)
    record = {"file_name": str(file), "height": HEIGHT, "width": WIDTH}
    cache, whole = PictureCache(str(tmp_path / "cache")), (HEIGHT, WIDTH)
    for settings in ({}, {"log_attenuation": True}, {"gain": 0.5}):
        reader = ImageReader(2, [0, 4095], more_files=[["_low", "_high"]], **settings)
        for _ in range(2):
            seen = cache.image(record, "BGR", whole, [whole], reader)
            assert seen.dtype == np.float32 and np.array_equal(seen, reader.read(file))
    save(other, samples(2)[:, :, 1])
    assert np.array_equal(cache.image(record, "BGR", whole, [whole], reader), reader.read(file))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_mapper_resizes_and_flips_any_number_of_channels(tmp_path, channels, cached):
    file = save(tmp_path / "bag.npy", samples(channels))
    record = {"file_name": str(file), "height": HEIGHT, "width": WIDTH, "annotations": []}
    reader = ImageReader(channels, [0, 4095])
    steps = [
        T.ResizeShortestEdge(48, 100),
        T.RandomFlip(prob=1.0),
        T.RandomFlip(prob=1.0, horizontal=False, vertical=True),
    ]
    cache = PictureCache(str(tmp_path / "cache") if cached else None)
    mapped = [
        DetectionMapper(steps, reader=reader, cache=cache, plain=plain)(record)["image"] for plain in (False, True)
    ]
    assert mapped[0].shape == (channels, 48, 72) and mapped[0].is_contiguous()
    # enlarging needs no smoothing, so that the plain path does the same
    assert mapped[0].numpy() == pytest.approx(mapped[1].numpy(), abs=0.01)


def test_a_record_of_another_size_is_refused(tmp_path):
    file = save(tmp_path / "bag.npy", samples(2))
    reader = ImageReader(2, [0, 4095])
    with pytest.raises(UserError, match="is 36x24, its data set says 20x24"):
        read_record({"file_name": str(file), "height": 24, "width": 20}, "BGR", reader)


@pytest.mark.parametrize("part", [RandomJpeg(), T.RandomApply(T.AugmentationList([RandomJpeg()])), T.RandomLighting(1)])
def test_augmentations_of_8_bit_colours_are_refused_on_other_images(part):
    with pytest.raises(UserError, match=r"8-bit colours that Random.* works on"):
        DetectionMapper([part], reader=ImageReader(2, [0, 4095]))
    DetectionMapper([part], reader=ImageReader())


def test_the_overrides_that_a_refusal_of_parts_for_colours_names_leave_them_all_out():
    cfg = get_config("xray/mask_rcnn_r50.py", ["dataloader.reader.channels=2", "dataloader.reader.window=[0, 4095]"])
    cfg.dataloader.train.mapper.augmentations.insert(0, L(RandomJpeg)())
    with pytest.raises(UserError, match=r"RandomJpeg, RandomScannerResponse, BackgroundMixing works") as refused:
        instantiate(cfg.dataloader.train.mapper)
    overrides = refused.value.fix.removeprefix("leave it out by ").partition(", or ")[0]
    cfg = apply_overrides(cfg, shlex.split(overrides))
    assert len(instantiate(cfg.dataloader.train.mapper).augmentations.augs) == 3


def test_a_reader_comes_out_of_a_config_and_out_of_a_pickle_the_same(tmp_path):
    file = save(tmp_path / "bag.npy", samples(2))
    node = L(ImageReader)(channels=2, window=[[0, 4095], [0, 4000]], gain=[1.0, 0.5], shown=[1, 0])
    reader = instantiate(node)
    assert ImageReader(**reader.settings()).settings() == reader.settings()
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(file), reader.read(file))
