"""Looking into a model at work: its parts one by one, its attention, and what speaks for a class."""
