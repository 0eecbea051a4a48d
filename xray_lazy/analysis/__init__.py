"""What a model gets wrong and what it costs: detections against ground truth, two runs compared, parts of a model."""
