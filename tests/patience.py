"""How long a test waits for what another process does: the end of a hang, not of a slow machine."""

PATIENCE = 600.0  # seconds
