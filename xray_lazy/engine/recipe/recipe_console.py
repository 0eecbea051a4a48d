"""A recipe on a terminal."""

from rich.markup import escape
from rich.table import Table

from xray_lazy.config.override_text import value_text
from xray_lazy.engine.recipe.draft import Setting
from xray_lazy.engine.recipe.recipe import Recipe
from xray_lazy.utils.terminal import table_console


def print_recipe(recipe: Recipe) -> None:
    """Print what to set and why, then the command."""
    console = table_console()
    table = Table("what", "why", show_header=False, box=None, padding=(0, 2, 1, 0))
    table.columns[1].overflow = "fold"
    for one in recipe.advice:
        changed = [f"[bold]{escape(_shown(setting))}[/bold]" for setting in one.settings]
        table.add_row(one.topic, "\n".join([*changed, escape(one.reason)]))
    console.print(f"{recipe.summary}; for {recipe.config_file}, whose other values stay\n", markup=False)
    console.print(table)
    for caution in recipe.cautions:
        console.print(f"caution: {caution}", style="yellow", markup=False)
    print(f"\n{recipe.command}")


def _shown(setting: Setting) -> str:
    if setting.override.startswith("~"):
        return setting.override
    return f"{setting.key} = {value_text(setting.value)}, was {value_text(setting.before)}"
