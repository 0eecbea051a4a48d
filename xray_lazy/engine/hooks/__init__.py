"""Hooks that a config can list. Each knows `self.trainer` and nothing else of the run."""
