"""Settings that follow from a data set, each with its reason: a start for a search, as overrides of a config."""
