"""What knows nothing of images nor of runs: files written whole, signals, processes, numbers, tables and wording."""
