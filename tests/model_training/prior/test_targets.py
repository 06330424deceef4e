import torch

from model_training.prior.targets import Targets


def targets() -> Targets:
    """Two posteriors of three latent units, the first certain; unit j becomes coordinate 2 - j."""
    return Targets(
        torch.tensor([[1.0, 2, 3], [4, 5, 6]]),
        torch.tensor([[0.0, 0, 0], [0.1, 0.2, 0.3]]),
        torch.eye(3).flip(1),
        torch.tensor([1.0, 3, 2]),
    )


def test_a_certain_posterior_gives_its_mean() -> None:
    torch.testing.assert_close(targets().draw(torch.tensor([0, 0])), torch.tensor([[1.0, 2, 3]] * 2))


def test_draws_spread_as_the_posterior_does_after_whitening() -> None:
    torch.manual_seed(0)
    draws = targets().draw(torch.ones(20_000, dtype=torch.long))
    torch.testing.assert_close(draws.mean(0), torch.tensor([4.0, 5, 6]), atol=0.01, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.tensor([0.3, 0.2, 0.1]), atol=0.01, rtol=0)


def test_a_batch_is_drawn_from_all_posteriors() -> None:
    torch.manual_seed(0)
    batch = targets().draw_batch(200)
    assert batch.shape == (200, 3)
    assert 50 < (batch[:, 0] > 2.5).sum() < 150


def test_leading_coordinates_weigh_one_on_average() -> None:
    leading = targets().leading(2)
    torch.testing.assert_close(leading.means, torch.tensor([[1.0, 2], [4, 5]]))
    torch.testing.assert_close(leading.weight, torch.tensor([0.5, 1.5]))
    assert leading.draw(torch.tensor([0])).shape == (1, 2)


def test_more_leading_coordinates_than_there_are_give_all() -> None:
    torch.testing.assert_close(targets().leading(9).means, targets().means)
