"""Searches before a training: the largest batch that fits, and the range of learning rates."""
