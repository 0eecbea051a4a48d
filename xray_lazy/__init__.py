"""Detection and instance segmentation of baggage items in X-ray scans, on detectron2 LazyConfigs.

Importing this package is cheap: torch and detectron2 are imported by the modules that use them.
"""

__version__ = "0.1.0"
