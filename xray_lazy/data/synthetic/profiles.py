"""What a scanner's images look like: size, scale, sharpness, noise, colours, and how full its bags are."""

from dataclasses import dataclass

from xray_lazy.data.scanners import SCANNER_SIZES


@dataclass(frozen=True)
class ScannerProfile:
    """One scanner.

    Attributes:
        size: width and height of an image in pixels.
        field_width: width of the scanned field in cm; with `size` it sets the scale.
        dyes: absorption of red, green and blue per unit of -ln(transmission), for organic, mixed and metal.
        air: colour of the empty belt, RGB.
        photons: mean number per pixel at full beam, at the low and the high energy.
        electronic_noise: standard deviation, as a share of the full beam.
        line_noise: spread of the detectors' gains; one detector is one row.
        blur: standard deviation of the detector's response in pixels.
        edge_enhancement: how much of the fine detail is added again, as scanners do for their operators.
        supersampling: objects are drawn this many times finer than the image.
        clutter: fewest and most unlabelled objects in a bag.
        most_items: most labelled objects in a bag.
        tilt: least squeeze of an object that lies out of the image's plane; 1 is flat.
        bag_angle: bags are turned by up to this many degrees.
    """

    size: tuple[int, int]
    field_width: float
    dyes: tuple[tuple[float, float, float], ...]
    air: tuple[int, int, int]
    photons: tuple[float, float]
    electronic_noise: float
    line_noise: float
    blur: float
    edge_enhancement: float
    supersampling: int
    clutter: tuple[int, int]
    most_items: int
    tilt: float
    bag_angle: float

    @property
    def pixels_per_cm(self) -> float:
        return self.size[0] / self.field_width


PROFILES = {
    "astrophysics": ScannerProfile(
        size=SCANNER_SIZES["astrophysics"],
        field_width=74,
        dyes=((0.18, 0.75, 2.20), (1.35, 0.45, 1.45), (1.25, 0.68, 0.24)),
        air=(255, 255, 255),
        photons=(9e3, 2e4),
        electronic_noise=0.0015,
        line_noise=0.003,
        blur=0.9,
        edge_enhancement=0.7,
        supersampling=1,
        clutter=(6, 14),
        most_items=6,
        tilt=0.55,
        bag_angle=12,
    ),
    "smith": ScannerProfile(
        size=SCANNER_SIZES["smith"],
        field_width=80,
        dyes=((0.25, 0.80, 1.80), (1.20, 0.52, 1.30), (1.40, 0.90, 0.28)),
        air=(236, 236, 232),
        photons=(6e3, 1.4e4),
        electronic_noise=0.002,
        line_noise=0.006,
        blur=1.2,
        edge_enhancement=0.4,
        supersampling=1,
        clutter=(6, 14),
        most_items=6,
        tilt=0.55,
        bag_angle=180,
    ),
    "rapiscan": ScannerProfile(
        size=SCANNER_SIZES["rapiscan"],
        field_width=70,
        dyes=((0.15, 0.62, 2.50), (1.55, 0.40, 1.60), (1.15, 0.52, 0.18)),
        air=(252, 253, 255),
        photons=(4e3, 9e3),
        electronic_noise=0.003,
        line_noise=0.004,
        blur=0.7,
        edge_enhancement=1.0,
        supersampling=1,
        clutter=(6, 14),
        most_items=6,
        tilt=0.55,
        bag_angle=25,
    ),
    # Small images of easy bags, on which a small model learns within minutes on a laptop.
    "demo": ScannerProfile(
        size=(320, 192),
        field_width=68,
        dyes=((0.18, 0.75, 2.20), (1.35, 0.45, 1.45), (1.25, 0.68, 0.24)),
        air=(255, 255, 255),
        photons=(1.2e4, 2.5e4),
        electronic_noise=0.0015,
        line_noise=0.003,
        blur=0.45,
        edge_enhancement=0.4,
        supersampling=2,
        clutter=(1, 3),
        most_items=3,
        tilt=0.85,
        bag_angle=8,
    ),
}
