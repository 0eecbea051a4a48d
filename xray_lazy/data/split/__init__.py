"""Split scanners' exports into train, val and test in the folder layout that training reads."""

from xray_lazy.data.split.layout import TRANSFERS, write_splits
from xray_lazy.data.split.plan import SplitPlan, plan_split
from xray_lazy.data.split.scanner_export import Export, read_export

__all__ = ["TRANSFERS", "Export", "SplitPlan", "plan_split", "read_export", "write_splits"]
