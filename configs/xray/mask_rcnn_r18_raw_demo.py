"""The demo's Mask R-CNN on what the detectors count, the attenuation at two energies: `make demo` with `--raw`."""

from .mask_rcnn_r18_demo import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

# 16-bit PNGs: the sets name those of the low energy, those of the high one lie beside them
dataloader.reader.update(channels=2, window=[500, 60000], log_attenuation=True, more_files=[["_low", "_high"]])
dataloader.train.dataset.names, dataloader.test.dataset.names = "xray_demo_raw_train", "xray_demo_raw_val"

model.backbone.bottom_up.stem.in_channels = "${dataloader.reader.channels}"
model.pixel_mean, model.pixel_std = [10.0, 6.0], [27.0, 12.0]  # of the generated images

train.output_dir = "output/raw_demo"
