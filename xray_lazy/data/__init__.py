"""COCO-format data sets: files, checks, repair, split, conversion, synthetic bags, and what feeds a model."""
