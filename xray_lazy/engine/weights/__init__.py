"""Weights from elsewhere: read without running their code, named as ours, fitted to other classes and channels."""
