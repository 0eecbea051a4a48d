"""Parts of a config that refuse, fail or interfere."""

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from xray_lazy.errors import RunFailure, UserError
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


class FailIn(HookBase):
    """One process of several fails: at its start, in a reader, in the forward pass, in evaluation, or while saving."""

    def __init__(self, place):
        self.place = place
        if place == "start":
            self._fail_in(comm.get_world_size() - 1)

    def before_train(self):
        trainer, last = self.trainer, comm.get_world_size() - 1
        if self.place == "reader":
            mapper = trainer.loader._samples._mapper
            trainer.loader._samples._mapper = lambda record: self._fail_in(last) or mapper(record)
        elif self.place == "forward":
            trainer.bare_model.backbone.register_forward_pre_hook(lambda *_: self._fail_in(last))
        elif self.place == "evaluation":
            evaluator = trainer.evaluate.sets[0].evaluators[0]
            evaluator.evaluate = lambda: self._fail_in(last) or CocoEvaluator.evaluate(evaluator)
        elif self.place == "saving":
            trainer.checkpointer.write = lambda *_: self._fail_in(0)

    def _fail_in(self, rank):
        if comm.get_rank() == rank and comm.get_world_size() > 1:
            raise RunFailure(f"rank {rank} gives up: {self.place}", "none")
