"""Runs as jobs of a cluster: what a login machine does, what runs inside a job, and evaluation beside training."""
