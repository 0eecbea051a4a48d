"""Every fault of COCO sets in one report: what, which ids, how to fix it, and what `repair` would do about it."""

from xray_lazy.data.check.checked_sets import check_sets
from xray_lazy.data.check.coco_set import CocoSet, open_sets
from xray_lazy.data.check.report import Finding, Report, SetReport

__all__ = ["CocoSet", "Finding", "Report", "SetReport", "check_sets", "open_sets"]
