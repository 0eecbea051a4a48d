"""Where a run's numbers and its circumstances go: console, metrics.json, TensorBoard, W&B, run.json.

Each writer has its own module, because importing detectron2's events imports torch and `run_record` does without.
"""
