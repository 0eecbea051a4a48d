"""Numbers with their nouns, as people read them."""


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 picture`, `1,500 pictures`; `plural` where it isn't the singular with an s."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
