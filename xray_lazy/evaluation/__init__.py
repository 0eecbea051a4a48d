"""Evaluation of detections: COCO metrics, the evaluator that collects them, and the loop that runs a model."""
