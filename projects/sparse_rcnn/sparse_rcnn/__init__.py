"""Sparse R-CNN (Sun et al., CVPR 2021): detection and instance segmentation by a few learned proposals, without NMS."""
