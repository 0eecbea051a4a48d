"""How strongly materials absorb X-rays at the two energies of a dual-energy scanner."""

from typing import NamedTuple


class Material(NamedTuple):
    """A material's density in g/cm3 and mass attenuation in cm2/g at the low and the high energy.

    The two energies are the mean ones of a 150 kV tube's photons in a thin and in a filtered detector: 60 and 100 keV.
    Elements and plain compounds have the figures of the NIST tables (Hubbell and Seltzer, NISTIR 5632, tables 3 and 4);
    mixtures are their averages weighted by mass.
    """

    name: str
    density: float
    low: float
    high: float

    def attenuation(self, thickness):
        """(low, high) -ln of the share of the beam which passes `thickness` cm (a number or an array)."""
        areal_density = self.density * thickness
        return areal_density * self.low, areal_density * self.high


# organic: the ratio low/high is about 1.2
POLYETHYLENE = Material("polyethylene", 0.94, 0.1970, 0.1719)
PLASTIC = Material("nylon or ABS", 1.10, 0.1931, 0.1661)
WATER = Material("water", 1.00, 0.2059, 0.1707)
BUTANE = Material("liquid butane", 0.58, 0.2015, 0.1762)
CLOTH = Material("cotton, folded loosely", 0.20, 0.1923, 0.1621)
PAPER = Material("paper", 0.75, 0.1980, 0.1630)
WOOD = Material("hard wood", 0.70, 0.1923, 0.1621)
LEATHER = Material("leather", 0.90, 0.1907, 0.1628)
FOOD = Material("fruit or sweets", 0.95, 0.2040, 0.1690)
RUBBER = Material("rubber with fillers", 1.15, 0.2200, 0.1680)
# mixed: about 1.5 to 2
GLASS = Material("glass", 2.40, 0.2515, 0.1684)
ALUMINIUM = Material("aluminium", 2.70, 0.2778, 0.1704)
PVC = Material("polyvinyl chloride", 1.35, 0.3324, 0.1887)
CIRCUIT_BOARD = Material("glass, epoxy and copper tracks", 2.00, 0.4200, 0.2260)
# metal: above 2.4
LITHIUM_CELL = Material("lithium cobalt oxide, graphite and foils", 2.30, 0.6050, 0.2455)
ALKALINE_CELL = Material("zinc, manganese dioxide and potash", 2.80, 0.7850, 0.2840)
STEEL = Material("steel", 7.87, 1.2050, 0.3717)
BRASS = Material("brass", 8.50, 1.6550, 0.4728)
COPPER = Material("copper", 8.96, 1.5930, 0.4584)
