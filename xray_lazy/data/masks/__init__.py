"""Masks: encoded as COCO has them, and drawn within their own extent."""
