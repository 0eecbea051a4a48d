"""All advice for a data set, as overrides of a config that its check accepts."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from detectron2.config import instantiate

from xray_lazy.config import check_config, load_config, raise_faults
from xray_lazy.config.override_grammar import parse_override
from xray_lazy.engine.preflight.preflight import check_data, check_numbers
from xray_lazy.engine.preflight.setting_limits import check_settings
from xray_lazy.engine.recipe.box_table import BoxTable
from xray_lazy.engine.recipe.chosen_sets import ChosenSets
from xray_lazy.engine.recipe.class_rules import advise_balance, advise_classes, advise_masks
from xray_lazy.engine.recipe.count_rules import advise_counts
from xray_lazy.engine.recipe.draft import Advice, Draft
from xray_lazy.engine.recipe.image_rules import advise_anchors, advise_image_size
from xray_lazy.engine.recipe.length_rules import advise_batch, advise_length, advise_workers
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

_LOOK = "`tools/dataset.py check` tells why: e.g. all are crowd regions (iscrowd 1), or their ids don't match"
TRAIN, TEST = "dataloader.train.dataset", "dataloader.test.dataset"


@dataclass(frozen=True)
class Recipe:
    """What to set, and why.

    Attributes:
        summary: of the training set, in numbers.
        config_file: that the overrides are for.
        advice: by topic, in its order.
        overrides: the person's own, then those of the advice.
        cautions: what to know before the figures of such a training are believed.
        gpus: that the training is for, where they were given.
    """

    summary: str
    config_file: str
    advice: tuple[Advice, ...]
    overrides: tuple[str, ...]
    cautions: tuple[str, ...]
    gpus: int | None = None

    @property
    def command(self) -> str:
        """The training, as one line of a shell that is broken for reading."""
        words = ["python tools/lazy_train.py", f"--config-file {shlex.quote(self.config_file)}"]
        words += [f"--num-gpus {self.gpus}"] if self.gpus else []
        return " ".join(words) + "".join(f" \\\n    {shlex.quote(text)}" for text in self.overrides)

    def as_json(self) -> dict:
        """Plain values, and the command."""
        return asdict(self) | {"command": self.command}


def make_recipe(
    config_file: str,
    overrides: Sequence[str] = (),
    sets: ChosenSets | None = None,
    gpus: int | None = None,
    memory: float | None = None,
    cores: int = 4,
) -> Recipe:
    """Advise settings for the data sets of a config, or for other ones.

    Args:
        config_file: whose settings stay where nothing speaks against them.
        overrides: the person's own; what they set is advised no other way.
        sets: to train and evaluate on; None for those of the config.
        gpus: of the training; None counts as one process.
        memory: of each GPU, GiB.
        cores: of the machine.

    Raises:
        UserError: the config, or a data set, has a fault that no setting mends.
    """
    config = load_config(config_file, overrides)
    raise_faults(check_config(config))
    draft = Draft(config, frozenset(parse_override(text).key for text in overrides))
    if sets is not None:
        draft.advise("data", {f"{TRAIN}.names": sets.train, f"{TEST}.names": sets.test}, "the sets that you named")
        draft.cautions += sets.cautions
    dataset = instantiate(draft.config.dataloader.train.dataset)
    table = BoxTable.of(dataset)
    if not len(table.boxes):
        raise UserError(f"{dataset.name} has no instance to train on, from whose size settings could follow", _LOOK)
    advise_masks(draft, dataset)
    advise_classes(draft, dataset)
    size = advise_image_size(draft, table)
    advise_anchors(draft, table, size)
    advise_counts(draft, table)
    advise_balance(draft, table, dataset)
    advise_batch(draft, table, gpus or 1, memory, size)
    advise_length(draft, table)
    advise_workers(draft, gpus or 1, cores)
    faults = [*check_settings(draft.config), *check_numbers(draft.config, gpus or 1), *check_data(draft.config)]
    raise_faults(faults)
    summary = (
        f"{dataset.name}: {counted(len(dataset), 'image')}, {counted(len(table.boxes), 'box', 'boxes')} of "
        f"{counted(len(dataset.class_names), 'class', 'classes')}"
    )
    advice, cautions = tuple(draft.advice), tuple(draft.cautions)
    return Recipe(summary, config_file, advice, (*overrides, *draft.overrides), cautions, gpus)
