"""Parts of a config that refuse, fail or interfere."""

from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator


class Refuses:
    """A writer that can't be built."""

    def __init__(self):
        raise UserError("no such place to write to", "name another")


class ActingEvaluator(CocoEvaluator):
    """Calls what a test sets as `act` after each batch."""

    act = None

    def process(self, inputs, outputs):
        super().process(inputs, outputs)
        if ActingEvaluator.act:
            ActingEvaluator.act()
