"""Every fault of an experiment, told before anything is built or written."""
