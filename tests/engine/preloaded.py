"""All that a run on the CPU imports."""

from tests.engine.demo_config import demo_config

demo_config()
