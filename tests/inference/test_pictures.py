"""Which pictures fit which pair, and that they show its numbers."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES

from ppl_vae import (
    BernoulliVAE,
    ConvGaussianVAE,
    ExponentialNormal,
    HierarchicalVAE,
    ImageData,
    ImagePair,
    LinearGaussian,
    fit,
    load,
)
from ppl_vae.inference.monitoring.guide_means import guide_means
from ppl_vae.inference.monitoring.pictures import draw_pictures, pair_pictures, prior_means

BASIC = {"inputs.png", "samples.png", "reconstructions.png"}


def bernoulli(latent_dim=2):
    return BernoulliVAE((1, 8, 8), latent_dim=latent_dim, hidden=(16,), seed=0)


def hierarchical(guide="bottom-up"):
    return HierarchicalVAE((1, 8, 8), latent_dims=(5, 3), guide=guide, seed=0)


def digits(count=20):
    return load("digits", binarize="threshold")[:count]


def offsets(ax):
    return np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])


@pytest.mark.parametrize(
    ("pair", "more"),
    [
        (bernoulli(1), {"latent_walk.png"}),
        (bernoulli(2), {"latent_walk.png", "latent_scatter.png"}),
        (bernoulli(4), {"latent_scatter.png"}),
        (hierarchical(), {"latent_scatter_z1.png", "latent_scatter_z2.png"}),
        (hierarchical("top-down"), {"latent_scatter_z1.png", "latent_scatter_z2.png"}),
    ],
)
def test_pairs_of_images_have_the_pictures_that_fit(pair, more, tmp_path):
    pair = pair.double()
    data = digits()
    files = draw_pictures(pair, data.batch(slice(None)), tmp_path / "new", labels=data.labels)
    assert {file.name for file in files} == BASIC | more
    assert set(files) == set((tmp_path / "new").iterdir())
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 200_000


@pytest.mark.parametrize("name", CASES)
def test_every_pair_can_be_drawn_and_nothing_is_left_behind(name, tmp_path):
    pair = CASES[name]()
    x = pair.sample(3, seed=0)
    state = torch.get_rng_state()
    store = set(pyro.get_param_store().keys())
    draw_pictures(pair, x, tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    assert set(pyro.get_param_store().keys()) == store


def test_inputs_and_reconstructions_are_the_pairs():
    pair, x = bernoulli(), digits().batch(slice(None))
    found = pair_pictures(pair, x)
    grid = np.asarray(found["inputs.png"]().images[0].get_array())
    np.testing.assert_array_equal(grid[:8, :8], x[0, 0])
    rows = np.asarray(found["reconstructions.png"]().images[0].get_array())
    np.testing.assert_array_equal(rows[:8, :8], x[0, 0])
    np.testing.assert_allclose(rows[9:17, 9:17], pair.reconstruct(x)[1, 0].float(), rtol=1e-6)


def test_flat_images_are_drawn_as_images():
    pair, x = bernoulli(), digits().batch(slice(None))
    for name, draw in pair_pictures(pair, x.flatten(1)).items():
        expected = pair_pictures(pair, x)[name]()
        if expected.images:
            np.testing.assert_array_equal(
                draw().images[0].get_array(), expected.images[0].get_array()
            )


def test_the_scatter_shows_the_encoders_means_by_label():
    pair, data = bernoulli(), digits()
    x = data.batch(slice(None))
    ax = pair_pictures(pair, x, data.labels)["latent_scatter.png"]()
    expected = pair.encode(x)[0].detach().numpy()
    for collection in ax.collections:
        chosen = expected[data.labels.numpy() == int(collection.get_label())]
        np.testing.assert_allclose(collection.get_offsets(), chosen, rtol=1e-6)
    assert len(ax.collections) == len(data.labels.unique())


def test_without_labels_or_with_too_many_there_is_no_legend():
    pair, x = bernoulli(), digits(100).batch(slice(None))
    for labels in (None, torch.arange(100)):
        ax = pair_pictures(pair, x, labels)["latent_scatter.png"]()
        assert ax.get_legend() is None
        assert len(offsets(ax)) == 100


@pytest.mark.parametrize("guide", ["bottom-up", "top-down"])
def test_means_of_every_layer_are_the_guides(guide):
    pair = hierarchical(guide)
    x = digits(1500).batch(slice(None))
    found = guide_means(pair, x)
    assert set(found) == {"z1", "z2"}
    for site, (loc, _) in zip(pair.sites, pair.posterior_means(x), strict=True):
        torch.testing.assert_close(found[site], loc.detach(), rtol=1e-12, atol=1e-14)


class Rounded(ImagePair):
    """A user's pair: a site whose distribution has no mean, one that is not per image."""

    def __init__(self):
        super().__init__((1, 2, 2))
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def model(self, x):
        self.begin(x)
        pyro.sample("shared", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.sample("heavy", self._folded())
            loc = (self.weight + z.sum(-1))[..., None, None, None].expand(-1, 1, 2, 2)
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(3), obs=x)

    def guide(self, x):
        self.begin(x)
        pyro.sample("shared", dist.Normal(self.weight, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.flatten(1)[:, :2], 1.0).to_event(1))
            pyro.sample("heavy", self._folded())

    def _folded(self):
        return dist.TransformedDistribution(
            dist.Normal(self.weight, 1.0), [dist.transforms.ExpTransform()]
        )


def test_a_users_pair_of_images_is_drawn_as_far_as_it_goes(tmp_path):
    pair, x = Rounded(), torch.rand(5, 1, 2, 2)
    assert set(guide_means(pair, x)) == {"z"}
    assert torch.equal(guide_means(pair, x)["z"], x.flatten(1)[:, :2])
    files = {file.name for file in draw_pictures(pair, x, tmp_path)}
    assert files == {"inputs.png", "samples.png", "latent_scatter.png"}


def test_means_under_the_prior_have_the_priors_moments():
    pair = LinearGaussian(4, 2, noise_scale=5.0, seed=1)
    count = 20_000
    x = prior_means(pair, count, seed=3)
    weight, loc = pair.decoder.weight.detach(), pair.decoder.loc.detach()
    variance = (weight @ weight.T).diagonal()
    assert bool(((x.mean(0) - loc).abs() <= 4.5 * (variance / count).sqrt()).all())
    spread = (x.var(0) - variance).abs() / (variance * (2 / count) ** 0.5)
    assert bool((spread <= 4.5).all())
    assert torch.equal(x, prior_means(pair, count, seed=3))
    assert not torch.equal(x, prior_means(pair, count, seed=4))


def test_pixels_from_minus_one_to_one_are_drawn_so():
    pair = ConvGaussianVAE(3, image_shape=(1, 8, 8), seed=0)
    x = 2 * torch.rand(4, 1, 8, 8) - 1
    for draw in pair_pictures(pair, x).values():
        assert all(image.get_clim() == (-1, 1) for image in draw().images)
    (image,) = pair_pictures(pair, x, pixel_range=(0, 2))["inputs.png"]().images
    assert image.get_clim() == (0, 2)


def test_a_run_is_drawn_by_its_data(tmp_path):
    images = torch.rand(12, 8, 8)
    pair = ConvGaussianVAE(3, image_shape=(1, 8, 8), seed=0)
    data = ImageData.from_tensor(images, binarize="none", pixel_range=(-1, 1))
    fit(pair, data, num_epochs=1, device="cpu", progress=False, run_dir=tmp_path)
    assert {p.name for p in tmp_path.glob("*.png")} == BASIC | {"elbo.png", "latent_scatter.png"}


def test_the_toy_is_drawn_beside_its_exact_posterior():
    pair = ExponentialNormal(prior_rate=2.0, noise_scale=0.05, guide_rate=1.5)
    x = torch.tensor([[1.2, 0.7, 1.1], [2.0, 3.0, 0.1]])
    ax = pair_pictures(pair, x)["posterior.png"]()
    (line,) = ax.lines
    z, guide = line.get_data()
    np.testing.assert_allclose(guide, 1.5 * np.exp(-1.5 * z), rtol=1e-12)
    outline = ax.collections[0].get_paths()[0].vertices
    exact = pair.exact.posterior(x[0])
    peak = exact.log_prob(exact.mode).exp().item()
    assert outline[:, 1].max() == pytest.approx(peak, rel=1e-3)
    heights = exact.log_prob(torch.from_numpy(z)).exp().numpy()
    assert np.trapezoid(heights, z) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x as a torch tensor"),
        ({"x": torch.zeros(3, 1, 9, 9)}, ValueError, "expected x of shape"),
        ({"labels": [1, 2]}, ValueError, "20 labels, one per example; got shape"),
    ],
)
def test_bad_input_draws_nothing(change, error, message, tmp_path):
    arguments = {"x": digits().batch(slice(None)), "folder": tmp_path / "new", **change}
    with pytest.raises(error, match=message):
        draw_pictures(bernoulli(), **arguments)
    assert not (tmp_path / "new").exists()


def test_prior_means_needs_a_count():
    with pytest.raises(TypeError, match="count as an int"):
        prior_means(bernoulli(), 2.5)
    with pytest.raises(ValueError, match="count of at least 1"):
        prior_means(bernoulli(), 0)
