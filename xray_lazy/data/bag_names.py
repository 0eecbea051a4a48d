"""Which bag an image shows, and which of its views: two fields of images in COCO files and of records, both texts."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from xray_lazy.errors import UserError

BAG, VIEW = "bag", "view"
OPTION = "--group-by "  # as the user gives a pattern


def bag_fields(image: Mapping[str, Any]) -> dict[str, str]:
    """Those of the two that an image has; numbers are taken as text."""
    given = {key: image.get(key) for key in (BAG, VIEW)}
    return {key: str(one) for key, one in given.items() if one != "" and type(one) in (str, int)}


def bag_of_each(images: Iterable[Mapping[str, Any]], id_key: str, group_by: str | None, option: str = OPTION) -> list:
    """The bag of each image: what `group_by` takes of its file name, else its field, else its id."""
    if not group_by:
        return [image.get(BAG, image[id_key]) for image in images]
    paths = [PurePath(image["file_name"]) for image in images]
    return groups_of([path.name for path in paths], group_by, option, list(map(str, paths)))


def groups_of(
    names: Sequence[str], pattern: str, option: str = OPTION, paths: Sequence[str] | None = None
) -> list[str]:
    """What the first group of a regular expression, or without one all of it, takes of each name.

    Args:
        option: how the user gave the pattern.
        paths: that tell images of one name apart; one that the pattern fits without its first group is a group of its
            own, with its path for a name.

    Raises:
        UserError: the pattern is no regular expression, or is not in all names.
    """
    matches = zip(_matches(names, pattern, option), paths or names, strict=True)
    return [path if match[first] is None else match[first] for (match, first), path in matches]


def named_fields(names: Sequence[str], pattern: str, option: str = OPTION) -> list[dict[str, str]]:
    """`bag` and `view` by the first and the second group of a regular expression; none where it has only one.

    Raises:
        UserError: as `groups_of`.
    """
    matches = [match for match, _ in _matches(names, pattern, option)]
    return [dict(zip((BAG, VIEW), match.groups(""), strict=False)) if match.re.groups > 1 else {} for match in matches]


def _matches(names: Sequence[str], pattern: str, option: str) -> list[tuple[re.Match[str], int]]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"{option}{shlex.quote(pattern)} is not a regular expression: {error}", "e.g. '^(bag[0-9]+)_'"
        ) from None
    matches = list(map(expression.search, names))
    strangers = [name for name, match in zip(names, matches, strict=True) if match is None]
    if strangers:
        raise UserError(
            f"{option}{shlex.quote(pattern)} does not fit {len(strangers)} of {len(names)} file names, "
            f"e.g. {strangers[0]}",
            f"make it fit them all; with {shlex.quote(pattern + '|.*')} each of these is a group of its own",
        )
    return [(match, min(1, expression.groups)) for match in matches if match]
