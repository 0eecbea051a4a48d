"""What happens beside the training step, in this order."""

from detectron2.config import LazyCall as L

from xray_lazy.engine.hooks.best_checkpoint import BestCheckpoint
from xray_lazy.engine.hooks.evaluation import Evaluation
from xray_lazy.engine.hooks.learning_rate import LearningRate
from xray_lazy.engine.hooks.periodic_checkpoint import PeriodicCheckpoint
from xray_lazy.engine.hooks.prediction_pictures import PredictionPictures
from xray_lazy.engine.hooks.progress import Progress
from xray_lazy.engine.hooks.stop_signals import StopSignals
from xray_lazy.engine.hooks.write_events import WriteEvents

hooks = dict(
    stop_signals=L(StopSignals)(),
    learning_rate=L(LearningRate)(schedule="${lr_multiplier}"),
    progress=L(Progress)(),
    evaluation=L(Evaluation)(period="${train.eval_period}"),
    best_checkpoint=L(BestCheckpoint)(metric="segm/AP", mode="max"),
    checkpoint=L(PeriodicCheckpoint)(
        period="${train.checkpointer.period}", max_to_keep="${train.checkpointer.max_to_keep}"
    ),
    prediction_pictures=L(PredictionPictures)(count=8, score_threshold=0.5),
    write_events=L(WriteEvents)(period="${train.log_period}"),
)
