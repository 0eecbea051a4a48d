"""One or more scanners' sets, with masks. Experiments name them in `names`."""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.data.loaders import TestLoader, TrainLoader
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.picture_cache import PictureCache
from xray_lazy.data.sampling import ShuffledEpochs
from xray_lazy.data.validation_loader import ValidationLoader
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.evaluation.screening.in_training import BagScreening

dataloader = dict(
    root=None,  # folder with annotations/ and images/; None takes $XRAY_DATASETS, else datasets/xray
    # how image files are read; a window is for 16 bits, other channels, several files of an image: docs/raw_images.md
    reader=L(ImageReader)(
        channels=3,
        window=None,  # [dark, white], the samples of no beam and of the whole beam; None: files of 8-bit colours
        gain=1.0,
        log_attenuation=False,
        deepest=7.0,
        more_files=[],
        shown=None,
    ),
    train=L(TrainLoader)(
        # empty bags stay in: a detector at a checkpoint sees little else
        dataset=L(load_datasets)(
            names="xray_astrophysics_train",
            root="${dataloader.root}",
            filter_empty=False,
            # a part of the set, the same in all epochs: evenly spread, or drawn where seed is a number
            fraction=1.0,
            max_pictures=None,
            seed=None,
        ),
        mapper=L(DetectionMapper)(
            is_train=True,
            # what puts items or parts of other images in, before the augmentations (xray_lazy.data.augmentation)
            mixing=[],
            augmentations=[
                L(T.ResizeShortestEdge)(
                    short_edge_length=(640, 672, 704, 736, 768, 800), sample_style="choice", max_size=1333
                ),
                L(T.RandomFlip)(horizontal=True),
            ],
            with_masks=True,
            image_format="${model.input_format}",
            reader="${dataloader.reader}",
            # decoded images in a folder on a fast local disk, for small sets: 13 MB each at these sizes
            cache=L(PictureCache)(folder=None, max_gib=20.0),
        ),
        # fraction: drawn anew for each epoch; balance: rare classes, scanners, empty bags (xray_lazy.data.balance)
        sampler=L(ShuffledEpochs)(seed="${train.seed}", fraction=1.0, balance=[]),
        total_batch_size=8,
        num_workers=4,
        similar_shapes=1,  # 8: sort the images of 8 batches by their shape, so that less is padding
        max_unreadable=20,
        seed="${train.seed}",
    ),
    test=L(TestLoader)(
        dataset=L(load_datasets)(
            names="xray_astrophysics_val", root="${dataloader.root}", fraction=1.0, max_pictures=None, seed=None
        ),
        mapper=L(DetectionMapper)(
            is_train=False,
            augmentations=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
            with_masks="${dataloader.train.mapper.with_masks}",
            image_format="${model.input_format}",
            reader="${dataloader.reader}",
            cache="${dataloader.train.mapper.cache}",
        ),
        batch_size=1,
        num_workers=4,
    ),
    test_apart=False,  # of several `names` each by itself, and their mean; see docs/evaluation.md
    # the test set as training sees it, for hooks.validation_loss
    validation=L(ValidationLoader)(
        dataset=L(load_datasets)(
            names="${dataloader.test.dataset.names}",
            root="${dataloader.root}",
            fraction="${dataloader.test.dataset.fraction}",
            max_pictures="${dataloader.test.dataset.max_pictures}",
            seed="${dataloader.test.dataset.seed}",
        ),
        mapper=L(DetectionMapper)(
            is_train=True,
            augmentations="${dataloader.test.mapper.augmentations}",
            with_masks="${dataloader.train.mapper.with_masks}",
            image_format="${model.input_format}",
            reader="${dataloader.reader}",
            cache="${dataloader.train.mapper.cache}",
        ),
        total_batch_size="${dataloader.train.total_batch_size}",
        num_workers="${dataloader.test.num_workers}",
    ),
    evaluator=L(CocoEvaluator)(
        dataset="${dataloader.test.dataset}",
        max_detections=100,
        # of bags: P_D at a P_FA given in percent (screening/P_D@5), and P_FA at a P_D; see docs/screening.md
        screening=L(BagScreening)(
            enabled=True,
            hit="iou",  # a detection counts by the IoU of its box, or where its "centre" lies in the item's
            iou=0.5,
            # regular expression: file names with an equal first group are one bag; None: the set's own, else each image
            group_by=None,
            view_fusion=None,  # learned weights of a bag's views, of tools/analyze.py fuse-views; None: the best view
            false_alarms=[1, 2, 5, 10],
            detections=[90, 95],
            per_class=False,
        ),
    ),
)
