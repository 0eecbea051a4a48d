"""Trained and exported models on images and videos: fast, in batches, with results to look at and to work with."""
