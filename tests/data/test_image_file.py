"""Images are read upright, 8 bit and three channels, or refused with the reason."""

import os
import pickle
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from xray_lazy.data.image_files.image_bytes import MissingImage, SeveralPages
from xray_lazy.data.image_files.image_file import (
    TruncatedImage,
    UnreadableImage,
    image_size,
    is_turned,
    read_image,
    read_samples,
)
from xray_lazy.errors import UserError

ORIENTATION = 0x112


def smooth_image(width=96, height=64) -> np.ndarray:
    """(height, width, 3) uint8 RGB that lossy formats keep nearly as it is; its left upper corner is red."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    image = np.stack([x + 40, y + 60, 90 + (x + y) // 4], axis=-1).astype(np.uint8)
    image[:16, :16] = 220, 20, 20
    return image


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_from_the_header_and_pixels_agree_for_every_exif_orientation(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"bag.{suffix}"
    Image.fromarray(smooth_image()).save(path, exif=exif)
    height, width = read_image(path).shape[:2]
    assert image_size(path) == (width, height) == ((96, 64) if orientation < 5 else (64, 96))
    assert is_turned(path) == (orientation >= 5)


def test_exif_turn_moves_the_corner(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned clockwise: the left upper corner becomes the right upper one
    Image.fromarray(smooth_image()).save(tmp_path / "bag.jpg", exif=exif, quality=95)
    blue, green, red = read_image(tmp_path / "bag.jpg")[4, -4].astype(int)
    assert red > 180 and green < 60 and blue < 60


def test_image_is_bgr(tmp_path):
    Image.fromarray(smooth_image()).save(tmp_path / "bag.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bag.png"), smooth_image()[:, :, ::-1])


def test_a_broken_colour_profile_is_read_past_without_a_word(tmp_path, capfd):
    path = tmp_path / "bag.png"
    Image.fromarray(smooth_image()).save(path, icc_profile=b"broken profile")
    np.testing.assert_array_equal(read_image(path), smooth_image()[:, :, ::-1])
    assert capfd.readouterr() == ("", "")


def test_transparency_and_orientation_outlast_what_a_png_is_read_without(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / "bag.png"
    Image.fromarray(smooth_image()).quantize(16).save(path, icc_profile=b"broken", exif=exif, transparency=0)
    assert read_image(path).shape[:2] == (96, 64)


def header_only(path, width, height):
    """A BMP that ends behind its size."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<III", 0, 0, 54) + header)
    return path


def test_images_of_as_many_pixels_as_are_decoded_have_a_size(tmp_path):
    assert image_size(header_only(tmp_path / "bag.bmp", 32768, 32768)) == (32768, 32768)
    with pytest.raises(UnreadableImage, match="exceeds limit of 1073741824 pixels"):
        image_size(header_only(tmp_path / "larger.bmp", 32768, 32769))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_modes_become_three_channels(tmp_path, mode):
    path = tmp_path / ("bag.jpg" if mode == "CMYK" else "bag.png")
    Image.fromarray(smooth_image()).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (64, 96, 3)
    assert image.dtype == np.uint8
    if mode == "L":
        assert (image[:, :, 0] == image[:, :, 2]).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_keeps_its_upper_bits(tmp_path, suffix):
    values = np.linspace(0, 65535, 96 * 64).reshape(64, 96).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"bag.{suffix}")
    difference = read_image(tmp_path / f"bag.{suffix}")[:, :, 1].astype(int) - (values >> 8)
    assert np.abs(difference).max() <= 1


def test_jpeg_named_png_is_read(tmp_path):
    Image.fromarray(smooth_image()).save(tmp_path / "bag.png", format="JPEG")
    assert read_image(tmp_path / "bag.png").shape == (64, 96, 3)
    assert image_size(tmp_path / "bag.png") == (96, 64)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_cut_off_file_is_refused(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    path = tmp_path / f"bag.{suffix}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    if suffix in ("jpg", "png"):
        assert isinstance(caught.value, TruncatedImage)


@pytest.mark.parametrize("look", [read_image, image_size, read_samples])
@pytest.mark.parametrize("suffix", ["tiff", "gif", "webp", "png", "avif"])
def test_a_file_of_several_pages_or_frames_is_refused(tmp_path, suffix, look):
    pages = [Image.fromarray(smooth_image() // number) for number in (1, 2, 3)]
    path = tmp_path / f"bag.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(SeveralPages, match="has 3 pages or frames: save each as an image of its own"):
        look(path)
    pages[0].save(path)
    look(path)


@pytest.mark.parametrize("look", [read_image, image_size, read_samples])
def test_a_page_that_is_another_one_in_small_does_not_count(tmp_path, look):
    path = tmp_path / "bag.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(smooth_image(), photometric="rgb")
        file.write(smooth_image()[::4, ::4], photometric="rgb", subfiletype=1)
    look(path)


def test_grey_pages_are_channels_of_samples_alone(tmp_path):
    path = tmp_path / "bag.tif"
    pages = [Image.fromarray(smooth_image()[:, :, channel]) for channel in (0, 1)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert read_samples(path).shape == (64, 96, 2) and image_size(path) == (96, 64)
    with pytest.raises(SeveralPages, match="has 2 pages"):
        read_image(path)


def test_bytes_behind_the_end_do_no_harm(tmp_path):
    path = tmp_path / "bag.jpg"
    Image.fromarray(smooth_image()).save(path)
    path.write_bytes(path.read_bytes() + b"scanner's own trailer" * 10)
    assert read_image(path).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"not an image at all", "not an image"), (b"\xff\xd8\xff", "cut off")]
)
def test_what_is_no_image_is_refused_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "bag.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason):
        read_image(path)
    with pytest.raises(UnreadableImage):
        image_size(path)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_missing_file_and_folder_have_their_own_words(tmp_path, read):
    with pytest.raises(MissingImage, match="does not exist"):
        read(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImage, match="folder"):
        read(tmp_path)


def test_error_survives_the_way_from_a_worker_process(tmp_path):
    error = pickle.loads(pickle.dumps(TruncatedImage(tmp_path / "bag.jpg", "is cut off")))
    assert isinstance(error, TruncatedImage) and isinstance(error, UserError)
    assert (error.path, error.why) == (tmp_path / "bag.jpg", "is cut off")


@pytest.mark.parametrize("look", [read_image, image_size])
def test_a_pipe_is_no_image_and_nobody_waits_for_it(tmp_path, look):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(UnreadableImage, match="can't be read"):
            look(path)
