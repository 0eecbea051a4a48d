#!/usr/bin/env python
"""Suggest settings for a data set, each with its reason, as overrides of a config."""

import argparse
import os

from xray_lazy.command_line import path, real, run_tool, whole
from xray_lazy.config.arguments import parse_with_overrides
from xray_lazy.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="%(prog)s [SET ...] [--config-file FILE] [options]",
        description=f"{__doc__} SET is a name (xray_smith_train, whose val set is evaluated) or ANNOTATIONS.json "
        "IMAGES_DIR, a second one for evaluation; without any, the sets of the config. No image is read, nothing is "
        "written.",
    )
    parser.add_argument(
        "--config-file",
        type=path,
        metavar="FILE",
        help="whose settings are looked at (default: configs/xray/mask_rcnn_r50.py, for sets without masks "
        "faster_rcnn_r50.py)",
    )
    parser.add_argument("--num-gpus", type=whole(1), metavar="N", help="of the training (default: one process)")
    parser.add_argument("--memory", type=real(above=0), metavar="GIB", help="of each GPU")
    parser.add_argument("--json", type=path, metavar="FILE", help="also write the recipe as JSON; - prints it instead")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace, words: list[str]) -> None:
    import json

    from xray_lazy.config.override_grammar import parse_override
    from xray_lazy.engine.recipe.chosen_sets import choose_sets, fitting_config, split_words
    from xray_lazy.engine.recipe.recipe import make_recipe
    from xray_lazy.engine.recipe.recipe_console import print_recipe
    from xray_lazy.utils.atomic_file import write_json
    from xray_lazy.utils.results_place import check_json_file

    if options.json and options.json != "-":
        check_json_file(options.json, "a recipe", "command", "config_file")

    names, overrides = split_words(words)
    if not names and not options.config_file:
        raise UserError(
            "neither a set nor a config is named", "name a set, e.g. xray_smith_train, or --config-file FILE"
        )
    roots = [change.value for change in map(parse_override, overrides) if change.key == "dataloader.root"]
    root = roots[-1] if roots else None
    sets = choose_sets(names, root) if names else None
    config_file = options.config_file or fitting_config(sets, root)
    cores = len(os.sched_getaffinity(0))
    recipe = make_recipe(config_file, overrides, sets, options.num_gpus, options.memory, cores)
    if options.json == "-":
        print(json.dumps(recipe.as_json(), indent=2))
        return
    print_recipe(recipe)
    if options.json:
        write_json(options.json, recipe.as_json(), indent=2)
        print(f"\nthe recipe as JSON: {options.json}")


if __name__ == "__main__":
    arguments, other_words = parse_with_overrides(build_parser())
    run_tool(lambda: main(arguments, other_words), arguments.debug)
