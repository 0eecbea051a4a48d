from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from omegaconf import ListConfig
from torch import nn

from xray_lazy.config.plain_lists import make_lists_plain


def test_lists_of_an_object_and_of_those_that_it_holds_are_pythons():
    resize = L(T.ResizeShortestEdge)(short_edge_length=[3, 4], max_size=9, sample_style="choice")
    augmentation = instantiate(L(T.RandomApply)(tfm_or_aug=resize))
    assert isinstance(augmentation.aug.short_edge_length, ListConfig)
    make_lists_plain(augmentation)
    assert augmentation.aug.short_edge_length == [3, 4] and type(augmentation.aug.short_edge_length) is list


def test_all_modules_of_a_model_keep_their_parts_and_parameters():
    inner = nn.Linear(2, 3)
    inner.sizes, inner.kind = ListConfig([1, [2]]), nn.ReLU
    model = nn.Sequential(inner)
    names = [name for name, _ in model.named_parameters()]
    make_lists_plain(model)
    assert inner.sizes == [1, [2]] and type(inner.sizes) is list and type(inner.sizes[1]) is list
    assert inner.kind is nn.ReLU and [name for name, _ in model.named_parameters()] == names
