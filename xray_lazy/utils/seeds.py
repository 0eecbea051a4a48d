"""The seed of a random draw from what it depends on."""


def seed_of(*numbers: int) -> int:
    """A seed below 2**32, the same on any machine: Python's hash of integers is not salted."""
    return hash(numbers) % 2**32
