"""Python's lists in place of a config's, which take a hundred times as long to go through, in what it has built."""

from typing import Any

from omegaconf import ListConfig, OmegaConf


def make_lists_plain(built: Any) -> None:
    """Replace those among the attributes of an object, and of the objects that it holds; of a model, in all modules."""
    for part in built.modules() if hasattr(built, "modules") else (built,):
        for held in (part, *vars(part).values()):
            # a class, too, has attributes, which are not this object's
            if hasattr(held, "__dict__") and not isinstance(held, type):
                _replace(held)


def _replace(held: Any) -> None:
    for name, value in vars(held).items():
        if isinstance(value, ListConfig):
            setattr(held, name, OmegaConf.to_container(value))
