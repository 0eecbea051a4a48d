"""Pixel statistics that pretrained backbones were trained with, in 0..255."""

# detectron2's model zoo: Caffe-style weights, mean of ImageNet, the standard deviation is in the first layer
imagenet_bgr = dict(pixel_mean=[103.530, 116.280, 123.675], pixel_std=[1.0, 1.0, 1.0])
# torchvision's backbones
imagenet_rgb = dict(pixel_mean=[123.675, 116.280, 103.530], pixel_std=[58.395, 57.120, 57.375])
