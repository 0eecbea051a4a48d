"""Sweeps: the file that describes one, its trials, the launcher that runs them, and their results."""
