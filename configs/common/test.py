"""How weights are evaluated beyond the plain pass: `--eval-only test.tta.enabled=True` adds test-time augmentation."""

from detectron2.config import LazyCall as L

from xray_lazy.evaluation.test_time_augmentation import TestTimeAugmentation

test = dict(
    tta=dict(
        enabled=False,
        model=L(TestTimeAugmentation)(
            model=None,  # the evaluated one
            # near the test size: a scanner shows an item at about one size, so that far scales only add mistakes
            short_edge_lengths=[700, 800, 900],
            max_size=2000,
            horizontal_flip=True,
            vertical_flip=False,  # where training flips vertically, too: a bag has no canonical up
            image_format="${model.input_format}",
            reader="${oc.select:dataloader.reader,null}",
            nms_threshold=0.5,
            detections_per_image=100,
            batch_size=2,
        ),
    ),
)
