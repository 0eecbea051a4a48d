"""What happens beside the training step, in this order."""

from detectron2.config import LazyCall as L

from xray_lazy.engine.hooks.best_checkpoint import BestCheckpoint
from xray_lazy.engine.hooks.early_stopping import EarlyStopping
from xray_lazy.engine.hooks.ema import ExponentialMovingAverage
from xray_lazy.engine.hooks.evaluation import Evaluation
from xray_lazy.engine.hooks.evaluation_media import EvaluationMedia
from xray_lazy.engine.hooks.learning_rate import LearningRate
from xray_lazy.engine.hooks.periodic_checkpoint import PeriodicCheckpoint
from xray_lazy.engine.hooks.precise_batch_norm import PreciseBatchNorm
from xray_lazy.engine.hooks.prediction_pictures import PredictionPictures
from xray_lazy.engine.hooks.progress import Progress
from xray_lazy.engine.hooks.stop_signals import StopSignals
from xray_lazy.engine.hooks.validation_loss import ValidationLoss
from xray_lazy.engine.hooks.write_events import WriteEvents
from xray_lazy.report.hook import Report

hooks = dict(
    stop_signals=L(StopSignals)(),
    learning_rate=L(LearningRate)(schedule="${lr_multiplier}"),
    progress=L(Progress)(),
    # over e.g. num_batches=100 of training, before each evaluation and checkpoint; 0 is off
    precise_batch_norm=L(PreciseBatchNorm)(
        num_batches=0, periods=["${train.eval_period}", "${train.checkpointer.period}"]
    ),
    ema=L(ExponentialMovingAverage)(decay=0.0, evaluate="beside"),  # of the weights, e.g. decay=0.9998; 0 is off
    validation_loss=L(ValidationLoss)(period=0, dataloader="${dataloader}"),  # of dataloader.validation; 0 is off
    evaluation=L(Evaluation)(period="${train.eval_period}"),
    # what TensorBoard and W&B show of an evaluation: images, confusion matrix, precision-recall curves
    evaluation_media=L(EvaluationMedia)(
        period="${train.eval_period}", count=16, worst=8, chosen=[], score_threshold=0.5, long_edge=1024
    ),
    prediction_pictures=L(PredictionPictures)(count=8, score_threshold=0.5),
    report=L(Report)(enabled=True, time_limit=120.0),  # report.html, when training is done; seconds
    # behind all that may give a metric, also what an experiment or the command line adds
    best_checkpoint=L(BestCheckpoint)(metric="segm/AP", mode="max", keep=1),
    # after e.g. patience=5 evaluations that were not better than the best; None is off
    early_stopping=L(EarlyStopping)(metric="bbox/AP", mode="max", patience=None, min_delta=0.0, warmup_iters=0),
    # the last two
    write_events=L(WriteEvents)(period="${train.log_period}"),
    checkpoint=L(PeriodicCheckpoint)(
        period="${train.checkpointer.period}",
        max_to_keep="${train.checkpointer.max_to_keep}",
        keep_every="${train.checkpointer.keep_every}",
    ),
)
