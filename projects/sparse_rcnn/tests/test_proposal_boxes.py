"""Where the cascade starts: learned boxes, the whole image, or boxes that look at the image first."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_rcnn.box_transformer import BoxTransformer, grid
from sparse_rcnn.position_encoding import LearnedPositionEncoding, SinePositionEncoding
from sparse_rcnn.proposal_boxes import LearnedProposalBoxes, WholePictureBoxes, cells
from torch import nn
from torchvision.ops import box_convert

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import detect, image, tiny_config, tiny_model, total
from xray_lazy.errors import UserError

WHOLE = torch.tensor([0.5, 0.5, 1.0, 1.0])
DIM, PROPOSALS = 16, 5
SIZES = [(64, 96), (48, 48)]
EVERYTHING = {"feature_level": [0, 1], "encode_boxes": True, "refine_boxes": True, "hand_on_queries": True}


def small_transformer(**settings) -> BoxTransformer:
    torch.manual_seed(0)
    arguments = {"dim": DIM, "num_heads": 4, "feedforward_dim": 32, "mlp_hidden_dim": 16, "feature_level": 0}
    return BoxTransformer(PROPOSALS, **(arguments | settings)).eval()


def trained(transformer: BoxTransformer) -> BoxTransformer:
    """As if it were trained: boxes move, and differ from each other."""
    torch.manual_seed(1)
    for parameter in transformer.mlp.parameters():
        nn.init.normal_(parameter, std=0.2)
    transformer.weight.data = torch.rand(PROPOSALS, 4) * 0.4 + 0.3
    return transformer


def features(height: int, width: int, images: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, DIM, height, width, generator=torch.Generator().manual_seed(seed))


def relative(proposals, sizes) -> torch.Tensor:
    """The boxes of proposals as cxcywh relative to images of these sizes (height, width)."""
    scales = torch.tensor([[width, height, width, height] for height, width in sizes])
    return box_convert(proposals.boxes / scales[:, None], "xyxy", "cxcywh")


def proposals() -> torch.Tensor:
    return torch.randn(PROPOSALS, DIM, generator=torch.Generator().manual_seed(5))


def test_learned_boxes_start_as_the_whole_image_and_learn():
    model = tiny_model()
    assert torch.equal(model.init_proposal_boxes.weight, WHOLE.expand(PROPOSALS, 4))
    assert "init_proposal_boxes.weight" in dict(model.named_parameters())
    total(model([image()])).backward()
    assert (model.init_proposal_boxes.weight.grad != 0).any()
    found = LearnedProposalBoxes(PROPOSALS)(proposals(), [], SIZES, (64, 96))
    assert torch.equal(relative(found, SIZES), WHOLE.expand(1, 2, PROPOSALS, 4))
    assert torch.equal(found.queries, proposals().expand(2, -1, -1)) and found.logits is None


@pytest.mark.parametrize("boxes", ["", "box_transformer"])
def test_learned_boxes_can_start_as_the_cells_of_a_grid(boxes):
    model = tiny_model(boxes, overrides=["model.init_proposal_boxes.start=grid", "model.num_proposals=4"]).eval()
    maps = [features(8, 8)] * 4
    started = model.init_proposal_boxes(model.init_proposal_features.weight, maps, [(64, 96)], (64, 96))
    wanted = [[0.25, 0.25, 0.5, 0.5], [0.75, 0.25, 0.5, 0.5], [0.25, 0.75, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5]]
    torch.testing.assert_close(relative(started, [(64, 96)])[-1, 0], torch.tensor(wanted))


@settings(deadline=None)
@given(st.integers(1, 400))
def test_cells_of_the_grid_lie_in_the_image_and_beside_each_other(count):
    boxes = cells(count)
    assert boxes.shape == (count, 4) and (boxes[:, :2] - boxes[:, 2:] / 2 > -1e-5).all()
    assert (boxes[:, :2] + boxes[:, 2:] / 2 < 1 + 1e-5).all()
    distances = torch.cdist(boxes[:, :2], boxes[:, :2], p=torch.inf) + 9 * torch.eye(count)
    assert distances.min() > boxes[0, 2] * 0.999


def test_an_unknown_start_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="'middle'") as refused:
        LearnedProposalBoxes(3, start="middle")
    *_, first, _, second = refused.value.fix.split()
    assert all(LearnedProposalBoxes(3, start=start) for start in (first, second))


@pytest.mark.parametrize("boxes", ["whole_picture", "image_proposals"])
def test_a_supervision_of_boxes_that_learn_nothing_from_it_is_refused(boxes):
    with pytest.raises(UserError, match="supervise_proposal_boxes has no effect with"):
        tiny_model(boxes, overrides=["model.supervise_proposal_boxes=True"])


def test_fixed_boxes_are_the_whole_image_for_ever():
    boxes = WholePictureBoxes(PROPOSALS)
    assert not list(boxes.parameters()) and not boxes.state_dict()
    model = tiny_model("whole_picture")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    total(model([image()])).backward()
    optimizer.step()
    started = model.init_proposal_boxes(proposals(), [], [(64, 96)], (64, 96))
    assert torch.equal(relative(started, [(64, 96)]), WHOLE.expand(1, 1, PROPOSALS, 4))


@pytest.mark.parametrize("encoding", ["sine", "learned"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("choices", [{}, EVERYTHING])
def test_the_box_transformer_starts_as_the_learned_boxes_do(encoding, layers, choices):
    transformer = small_transformer(position_encoding=encoding, num_layers=layers, **choices)
    found = transformer(proposals(), [features(4, 6, 2), features(2, 3, 2)], SIZES, (64, 96))
    torch.testing.assert_close(relative(found, SIZES), WHOLE.expand(layers, 2, PROPOSALS, 4))
    assert torch.equal(found.queries, proposals().expand(2, -1, -1))


def test_queries_are_handed_on_with_what_was_seen_of_their_image():
    maps = [features(4, 6, 2)]
    for choice in (False, True):
        transformer = trained(small_transformer(hand_on_queries=choice))
        if choice:
            nn.init.normal_(transformer.handed_on[-1].weight, std=0.2)
        queries = transformer(proposals(), maps, SIZES, (64, 96)).queries
        assert torch.allclose(queries[0], queries[1]) is not choice


def test_a_layer_moves_the_boxes_of_the_layer_before_where_it_refines():
    maps = [features(4, 6, 2)]
    found = {}
    for refine in (False, True):
        transformer = trained(small_transformer(refine_boxes=refine, num_layers=2))
        # deltas of both layers are the same: half a width to the right
        last = [module for module in transformer.mlp.modules() if isinstance(module, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        last.bias.data = torch.tensor([0.5, 0.0, 0.0, 0.0])
        found[refine] = relative(transformer(proposals(), maps, SIZES, (64, 96)), SIZES)
    torch.testing.assert_close(found[True][0], found[False][0])
    torch.testing.assert_close(found[False][1], found[False][0])
    moved = found[True][1] - found[True][0]
    torch.testing.assert_close(moved[..., 0], found[True][0][..., 2] / 2)
    assert moved[..., 1:].abs().max() < 1e-5


def test_a_query_knows_where_its_box_is():
    found = []
    for where in (0.3, 0.6):
        transformer = trained(small_transformer(encode_boxes=True))
        transformer.weight.data = torch.tensor([[where, where, 0.2, 0.2]]).repeat(PROPOSALS, 1)
        boxes = relative(transformer(proposals(), [features(4, 6, 2)], SIZES, (64, 96)), SIZES)
        found.append(boxes - transformer.weight)
    assert not torch.allclose(*found, atol=1e-3)


def test_it_may_look_at_several_levels():
    levels = [features(8, 12), features(4, 6, seed=1)]
    transformer = trained(small_transformer(feature_level=[0, 1]))
    boxes = transformer(proposals(), levels, [(64, 96)], (64, 96)).boxes
    for place in range(2):
        others = [torch.zeros_like(one) if i == place else one for i, one in enumerate(levels)]
        assert not torch.allclose(boxes, transformer(proposals(), others, [(64, 96)], (64, 96)).boxes)
    with pytest.raises(UserError, match="no feature map"):
        small_transformer(feature_level=[])


def test_with_published_weights_it_starts_with_their_boxes():
    published = tiny_model()
    published.init_proposal_boxes.weight.data = torch.rand(PROPOSALS, 4) * 0.5 + 0.25
    model = tiny_model("box_transformer", seed=3)
    rest = model.load_state_dict(published.state_dict(), strict=False)
    assert not rest.unexpected_keys and all(name.startswith("init_proposal_boxes.") for name in rest.missing_keys)
    batch = [image(), image(48, 64, seed=1)]
    for own, others in zip(detect(model, batch), detect(published, batch), strict=True):
        torch.testing.assert_close(own.pred_boxes.tensor, others.pred_boxes.tensor, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(own.scores, others.scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoding", ["sine", "learned"])
@pytest.mark.parametrize("choices", [{}, EVERYTHING | {"feature_level": 0}])
def test_what_is_in_the_padding_changes_nothing(encoding, choices):
    transformer = trained(small_transformer(position_encoding=encoding, **choices))
    alone = transformer(proposals(), [features(4, 6)], [(64, 96)], (64, 96)).boxes
    for garbage in (0.0, 1e3):
        batch = torch.full((2, DIM, 8, 10), garbage)
        batch[0, :, :4, :6] = features(4, 6)[0]
        batch[1] = features(8, 10, seed=1)[0]
        beside = transformer(proposals(), [batch], [(64, 96), (128, 160)], (128, 160)).boxes
        torch.testing.assert_close(beside[:, :1], alone, rtol=1e-4, atol=1e-3)  # pixels
        assert not torch.allclose(beside[:, 1:], alone)


def test_boxes_follow_what_is_in_the_image_and_where_it_is():
    transformer = trained(small_transformer())
    one = transformer(proposals(), [features(4, 6)], [(64, 96)], (64, 96)).boxes
    other = transformer(proposals(), [features(4, 6, seed=1)], [(64, 96)], (64, 96)).boxes
    mirrored = transformer(proposals(), [features(4, 6).flip(-1)], [(64, 96)], (64, 96)).boxes
    assert not torch.allclose(one, other) and not torch.allclose(one, mirrored)


def test_it_looks_at_the_feature_level_it_is_told():
    levels = [features(16, 16, seed=0), features(8, 8, seed=1), features(4, 4, seed=2)]
    for level in range(3):
        transformer = trained(small_transformer(feature_level=level))
        boxes = transformer(proposals(), levels, [(64, 64)], (64, 64)).boxes
        others = [torch.zeros_like(one) if i != level else one for i, one in enumerate(levels)]
        assert torch.equal(boxes, transformer(proposals(), others, [(64, 64)], (64, 64)).boxes)


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=3),
    stride=st.sampled_from([4, 16, 32]),
)
def test_the_grid_tells_padding_from_image(sizes, stride):
    padded = tuple(-(-max(size[axis] for size in sizes) // 32) * 32 for axis in (0, 1))
    positions, is_padding = grid(torch.zeros(len(sizes), DIM, padded[0] // stride, padded[1] // stride), sizes, padded)
    y, x = np.meshgrid(*((np.arange(size // stride) + 0.5) * stride for size in padded), indexing="ij")
    for place, (height, width) in enumerate(sizes):
        np.testing.assert_allclose(positions[place], np.stack([y / height, x / width], -1), rtol=1e-5)
        # the first cell of an image that is thinner than half of it counts
        inside = ((y < height) | (y < stride)) & ((x < width) | (x < stride))
        np.testing.assert_array_equal(is_padding[place], ~inside)


def test_a_image_of_one_pixel_has_something_to_look_at():
    transformer = trained(small_transformer())
    boxes = transformer(proposals(), [features(4, 4, 2)], [(1, 1), (128, 128)], (128, 128)).boxes
    assert boxes.isfinite().all()


def test_positions_are_told_apart_and_are_relative_to_the_image():
    centers = torch.stack(torch.meshgrid(torch.arange(20) / 20, torch.arange(20) / 20, indexing="ij"), -1).flatten(0, 1)
    torch.manual_seed(0)
    for encoding in (SinePositionEncoding(64), LearnedPositionEncoding(64)):
        code = encoding(centers)
        assert code.shape == (400, 64)
        distance = torch.cdist(code, code) + torch.eye(400) * 100
        assert distance.min() > 0.01
        # rows and columns have a half of the channels each
        assert torch.equal(code[:20, :32], code[:1, :32].expand(20, -1))
        assert torch.equal(code[::20, 32:], code[:1, 32:].expand(20, -1))


def test_the_learned_encoding_goes_evenly_from_place_to_place():
    encoding = LearnedPositionEncoding(8, num_places=3)
    between = encoding(torch.tensor([[0.25, 0.75]]))[0]
    wanted = [encoding.rows[:2].mean(0), encoding.columns[1:].mean(0)]
    torch.testing.assert_close(between, torch.cat(wanted))
    # the edges, and centers of cells that lie beyond them
    for position, place in [(0.0, 0), (1.0, 2), (1.7, 2)]:
        code = encoding(torch.tensor([position, position]))
        torch.testing.assert_close(code, torch.cat([encoding.rows[place], encoding.columns[place]]))


def test_an_unknown_encoding_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="position_encoding is 'cosine'"):
        small_transformer(position_encoding="cosine")


def test_the_settings_and_their_defaults():
    defaults = {name: p.default for name, p in inspect.signature(BoxTransformer).parameters.items()}
    wanted = {
        "num_layers": 2,
        "dropout": 0.1,
        "num_heads": 8,
        "position_encoding": "sine",
        "feature_level": 2,
        "mlp_hidden_dim": 256,
        "mlp_num_layers": 2,
    }
    assert {name: defaults[name] for name in wanted} == wanted
    node = tiny_config("box_transformer").model.init_proposal_boxes
    small = {"num_heads": 4, "mlp_hidden_dim": 16, "feature_level": [1, 2, 3]}
    assert {name: node[name] for name in wanted} == wanted | small


@pytest.mark.parametrize("mlp_layers", [1, 2, 4])
def test_the_perceptron_has_as_many_layers_as_told(mlp_layers):
    transformer = small_transformer(mlp_num_layers=mlp_layers, mlp_hidden_dim=12)
    linear = [module for module in transformer.mlp.modules() if isinstance(module, nn.Linear)]
    assert [layer.out_features for layer in linear] == [12] * (mlp_layers - 1) + [4]


@pytest.mark.parametrize("encoding", ["sine", "learned"])
def test_all_of_it_learns_from_the_second_step_on(encoding):
    model = tiny_model("box_transformer", overrides=[f"model.init_proposal_boxes.position_encoding={encoding}"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        total(model([image(objects=3), image(48, 64, seed=1)])).backward()
        # all of the parameters in each step, as data-parallel processes need it
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
    for name, parameter in model.init_proposal_boxes.named_parameters():
        assert parameter.grad.abs().max() > 0, name
