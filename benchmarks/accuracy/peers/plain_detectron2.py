"""detectron2's own Faster R-CNN with a ResNet-18 FPN, trained by its own loop and loaders. Runs in our environment."""

import copy
import sys
from pathlib import Path

import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.model_zoo import get_config_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from job import Job, iterations_within, timed


def main(job: Job) -> None:
    """Train as many iterations as fit into the budget, then detect in the test set."""
    torch.set_num_threads(1)
    DatasetCatalog.register("train", lambda: load_coco_json(job.train, job.images, "train"))
    MetadataCatalog.get("train").set(thing_classes=[category["name"] for category in job.categories()])
    iterations = int(job.of_another_seed("iterations") or 0)
    if not iterations:
        trials = [train(job, short)[1] for short in (4, 12)]
        iterations = max(4, iterations_within(job.seconds, trials[0], 4, trials[1], 12)[0])
    cfg, seconds, model = train(job, iterations)
    size = sum(parameter.numel() for parameter in model.parameters())
    job.finish(job.detect(detector(cfg)), seconds=seconds, iterations=iterations, parameters=size)


def train(job: Job, iterations: int):
    """Its config, processor time in seconds, and the model."""
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.RESNETS.NORM = 18, 64, "BN"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(job.categories())
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 128
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.001
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (job.image_size * 5 // 8,), job.image_size
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = job.image_size * 5 // 8, job.image_size
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("train",), ()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER = 8, 0.01, iterations
    cfg.SOLVER.STEPS = (max(1, iterations * 2 // 3), max(2, iterations * 8 // 9))
    cfg.SOLVER.WARMUP_ITERS = max(1, min(200, iterations // 10))
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = True, "norm"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 10.0
    cfg.SOLVER.CHECKPOINT_PERIOD = 10**9
    cfg.SEED, cfg.OUTPUT_DIR = job.seed, str(Path(job.folder) / "training")
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(job.seed)
    trainer = DefaultTrainer(copy.deepcopy(cfg))
    trainer.resume_or_load(resume=False)
    _, seconds = timed(trainer.train)
    return cfg, seconds, trainer.model


def detector(cfg):
    """As `Job.detect` calls it."""
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    predictor = DefaultPredictor(cfg)

    def detect(path: Path) -> tuple[list, list, list]:
        result = predictor(read_image(str(path), "BGR"))["instances"]
        return result.pred_boxes.tensor.tolist(), result.scores.tolist(), result.pred_classes.tolist()

    return detect


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
