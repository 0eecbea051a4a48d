"""Evaluate a run's checkpoints beside its training: which are to be evaluated, by whom, and where the results go."""
