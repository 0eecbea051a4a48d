"""Trained models as files that run elsewhere: ONNX, TorchScript, torch.export.

An exported model has one input, `image` `(channels, H, W)` float32 with values 0..255, colours in the order
`input_format`, already resized to the network's input size; it normalises and pads by itself. Its outputs, in this
order, best first:

- `boxes` `(N, 4)` float32, xyxy in pixels of the input
- `scores` `(N,)` float32
- `classes` `(N,)` int64, indices into `class_names`
- `masks` `(N, M, M)` float32, probabilities inside of each box, where `has_masks`

Next to `FILE` lies `FILE.json`, see `facts.ModelFacts`. `runtime.load_exported` runs all three formats.
"""
