"""What is known of the scanners whose exports carry no image sizes."""

from xray_lazy.errors import UserError

# (width, height) in pixels of the images that each scanner stores
SCANNER_SIZES: dict[str, tuple[int, int]] = {
    "astrophysics": (1920, 1080),
    "smith": (1680, 1050),
    "rapiscan": (1680, 1050),
}


def scanner_size(name: str) -> tuple[int, int]:
    """(width, height) of a scanner's images.

    Raises:
        UserError: no size is known for it.
    """
    if name not in SCANNER_SIZES:
        raise UserError(f"no image size is known for scanner {name!r}", f"known are {', '.join(SCANNER_SIZES)}")
    return SCANNER_SIZES[name]
