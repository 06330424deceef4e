import torch
from torch import nn

from model_training.prior.networks import ConvField, DenseField, GlobalBranch, TimeEmbedding, start_at_zero
from model_training.prior_recipe import VelocityFieldConfig

CONFIG = VelocityFieldConfig(time_width=16, groups=4, dropout=0.5, channel_dropout=0.5)


def filled(network: nn.Module) -> nn.Module:
    """With weights that are nowhere zero."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def test_times_are_told_apart() -> None:
    torch.manual_seed(0)
    times = torch.linspace(0, 1, 50)[:, None]
    embedded = TimeEmbedding(16)(times)
    assert embedded.shape == (50, 16)
    assert torch.pdist(embedded).min() > 1e-3


def test_fields_begin_without_residuals() -> None:
    torch.manual_seed(0)
    dense = DenseField(5, 8, 2, CONFIG)
    assert not dense(torch.randn(3, 5), torch.randn(3, 16)).any()
    branch = GlobalBranch(4, (3, 5), 8, 0.0)
    assert not branch(torch.randn(2, 4, 3, 5)).any()


def test_conditioning_changes_what_fields_say() -> None:
    dense = filled(DenseField(5, 8, 2, CONFIG)).eval()
    convolutional = filled(ConvField(3, 8, 2, 6, CONFIG)).eval()
    for field, points in ((dense, torch.randn(1, 5)), (convolutional, torch.randn(1, 3, 4, 5))):
        one, other = (field(points, conditioning) for conditioning in torch.randn(2, 1, 16))
        assert (one - other).abs().max() > 1e-3


def test_dropout_is_for_training_only() -> None:
    dense = filled(DenseField(5, 8, 2, CONFIG))
    convolutional = filled(ConvField(3, 8, 2, 6, CONFIG))
    branch = filled(GlobalBranch(4, (3, 5), 8, 0.5))
    conditioning = torch.randn(2, 16)
    for network, inputs in (
        (dense, (torch.randn(2, 5), conditioning)),
        (convolutional, (torch.randn(2, 3, 4, 5), conditioning)),
        (branch, (torch.randn(2, 4, 3, 5),)),
    ):
        network.train()
        assert not torch.equal(network(*inputs), network(*inputs))
        network.eval()
        assert torch.equal(network(*inputs), network(*inputs))


def test_a_convolutional_field_keeps_the_size_and_takes_what_the_middle_adds() -> None:
    field = filled(ConvField(3, 8, 2, 6, CONFIG)).eval()
    shown, conditioning = torch.randn(2, 3, 4, 5), torch.randn(2, 16)
    drawn = field(shown, conditioning)
    assert drawn.shape == (2, 6, 4, 5)
    assert not torch.equal(drawn, field(shown, conditioning, filled(GlobalBranch(8, (4, 5), 8, 0.0))))


def test_the_global_branch_joins_what_is_far_apart() -> None:
    branch = filled(GlobalBranch(4, (9, 20), 8, 0.0))
    state = torch.zeros(1, 4, 9, 20, requires_grad=True)
    branch(state)[0, 0, 0, 0].backward()
    assert state.grad is not None
    assert state.grad[0, :, -1, -1].any()


def test_starting_at_zero_takes_weights_and_bias() -> None:
    layer = nn.Conv2d(2, 3, 3)
    start_at_zero(layer)
    assert not any(parameter.any() for parameter in layer.parameters())
