"""Trained models as files that run elsewhere: ONNX, OpenVINO, TorchScript, torch.export.

An exported model takes images `(channels, H, W)` float32 with values 0..255, colours in the order `input_format`,
already resized to the network's input size; it normalises and pads by itself. That is one image, `picture`, or, where
it is `batched`, several, `images` `(B, channels, H, W)`, with their `sizes` `(B, 2)` int64. Its outputs, best first:

- `boxes` `(N, 4)` float32, xyxy in pixels of the input
- `scores` `(N,)` float32
- `classes` `(N,)` int64, indices into `class_names`
- `image_index` `(N,)` int64, rising: the image that each is in, where it is `batched`
- `masks` `(N, M, M)` float32, probabilities inside of each box, where `has_masks`

Next to `FILE` lies `FILE.json`, see `facts.ModelFacts`. `runtime.load_exported` runs all formats.
"""
