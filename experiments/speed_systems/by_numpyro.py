"""The same systems in NumPyro, many steps jitted as one scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import torch
from jax import lax
from torch import nn

from speed_systems.systems import RATE, TOY_DATA, Data, System

Array = Any
Steps = Callable[[int], object]


def make(system: System, data: Data) -> tuple[Steps, Callable[[Array, int], float]]:
    """Return steps, and a function for the mean of some losses on one batch at the start."""
    pair: Any = system.make()
    model, guide = _programs(system, pair)
    toy = system.binarize is None
    values = jnp.asarray(data.values.cpu().numpy())

    def batch(key: Array) -> Array:
        if toy:
            return jnp.array(TOY_DATA)
        first, second = jax.random.split(key)
        chosen = values[jax.random.randint(first, (system.batch_size,), 0, len(values))]
        if system.binarize == "none":
            return chosen.astype(jnp.float32) / 127.5 - 1
        noise = jax.random.randint(second, chosen.shape, 0, 255, dtype=jnp.uint8)
        return (noise < chosen).astype(jnp.float32)

    infer = numpyro.infer
    mean_field = system.elbo == "trace-mean-field"
    loss = infer.TraceMeanField_ELBO() if mean_field else infer.Trace_ELBO()
    svi = infer.SVI(model, guide, numpyro.optim.Adam(RATE), loss)
    held = {"state": svi.init(jax.random.PRNGKey(0), batch(jax.random.PRNGKey(1)))}
    held["key"] = jax.random.PRNGKey(2)
    start = svi.get_params(held["state"])

    @jax.jit
    def scan(state: Array, keys: Array) -> Array:
        return lax.scan(lambda s, key: svi.update(s, batch(key)), state, keys)

    def take(steps: int) -> None:
        held["key"], key = jax.random.split(held["key"])
        held["state"], found = scan(held["state"], jax.random.split(key, steps))
        found.block_until_ready()

    def mean_loss(x: Array, count: int) -> float:
        keys = jax.random.split(jax.random.PRNGKey(3), count)
        return float(lax.map(lambda key: loss.loss(key, start, model, guide, x), keys).mean())

    return take, mean_loss


def _programs(system: System, pair: Any) -> tuple[Any, Any]:  # noqa: ANN401
    if system.binarize is None:
        return _toy_model, _toy_guide
    make = {"bernoulli": _flat, "conv": _conv, "hierarchical": _hierarchical}
    return make[system.name.partition(",")[0].split()[0]](pair)


def _toy_model(x: Array) -> None:
    z = numpyro.sample("z", dist.Exponential(1.0))
    numpyro.sample("x", dist.Normal(z, 1.0).expand([len(TOY_DATA)]).to_event(1), obs=x)


def _toy_guide(x: Array) -> None:
    log_rate = numpyro.param("log_rate", 0.0)
    numpyro.sample("z", dist.Exponential(jnp.exp(log_rate)))


def _normal(site: str, loc: Array, scale: Array) -> Array:
    return numpyro.sample(site, dist.Normal(loc, scale).to_event(1))


def _split(output: Array) -> tuple[Array, Array]:
    loc, log_variance = jnp.split(output, 2, -1)
    return loc, jnp.exp(log_variance / 2)


def _flat(pair: Any) -> tuple[Any, Any]:  # noqa: ANN401
    encoder, decoder = _network("encoder", pair.encoder.net), _network("decoder", pair.decoder.net)

    def model(x: Array) -> None:
        with numpyro.plate("data", len(x)):
            z = _normal("z", jnp.zeros(pair.latent_dim), 1.0)
            pixels = dist.Bernoulli(logits=decoder(z)).to_event(1)
            numpyro.sample("x", pixels, obs=x.reshape(len(x), -1))

    def guide(x: Array) -> None:
        with numpyro.plate("data", len(x)):
            _normal("z", *_split(encoder(x.reshape(len(x), -1))))

    return model, guide


def _conv(pair: Any) -> tuple[Any, Any]:  # noqa: ANN401
    encoder, decoder = _network("encoder", pair.encoder.net), _network("decoder", pair.decoder.net)
    loc = _network("loc", nn.Sequential(pair.encoder.loc))
    log_scale = _network("log_scale", nn.Sequential(pair.encoder.log_scale))

    def model(x: Array) -> None:
        with numpyro.plate("data", len(x)):
            z = _normal("z", jnp.zeros(pair.latent_dim), 1.0)
            means = decoder(z[:, :, None, None])
            numpyro.sample("x", dist.Normal(means, 1.0).to_event(3), obs=x)

    def guide(x: Array) -> None:
        with numpyro.plate("data", len(x)):
            features = encoder(x)
            _normal("z", loc(features), jnp.exp(log_scale(features)))

    return model, guide


def _hierarchical(pair: Any) -> tuple[Any, Any]:  # noqa: ANN401
    first, second = (_network(f"encoder{i}", e.net) for i, e in enumerate(pair.encoder))
    prior, decoder = _network("prior", pair.prior[0].net), _network("decoder", pair.decoder.net)

    def model(x: Array) -> None:
        with numpyro.plate("data", len(x)):
            z2 = _normal("z2", jnp.zeros(pair.latent_dims[1]), 1.0)
            z1 = _normal("z1", *_split(prior(z2)))
            pixels = dist.Bernoulli(logits=decoder(z1)).to_event(1)
            numpyro.sample("x", pixels, obs=x.reshape(len(x), -1))

    def guide(x: Array) -> None:
        with numpyro.plate("data", len(x)):
            z1 = _normal("z1", *_split(first(x.reshape(len(x), -1))))
            _normal("z2", *_split(second(z1)))

    return model, guide


def _network(name: str, layers: nn.Sequential) -> Callable[[Array], Array]:
    """Return a network of torch as one of jax, its weights as NumPyro's parameters."""

    def run(h: Array) -> Array:
        for place, layer in enumerate(layers):
            held = {
                n: numpyro.param(f"{name}.{place}.{n}", jnp.asarray(p.detach().cpu().numpy()))
                for n, p in layer.named_parameters()
            }
            h = _layer(layer, held, h)
        return h

    return run


def _layer(layer: Any, held: dict[str, Array], h: Array) -> Array:  # noqa: ANN401
    if isinstance(layer, nn.Linear):
        return h @ held["weight"].T + held["bias"]
    if isinstance(layer, nn.Conv2d):
        padding = [(side, side) for side in layer.padding]
        kinds = ("NCHW", "OIHW", "NCHW")
        found = lax.conv_general_dilated(
            h, held["weight"], (1, 1), padding, dimension_numbers=kinds
        )
        return found + held["bias"][:, None, None]
    if isinstance(layer, nn.Upsample):
        sides = layer.size or tuple(int(layer.scale_factor) * side for side in h.shape[2:])
        return jax.image.resize(h, (*h.shape[:2], *sides), "bilinear")
    if isinstance(layer, nn.MaxPool2d):
        return lax.reduce_window(h, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    if isinstance(layer, nn.Flatten):
        return h.reshape(len(h), -1)
    simple = {nn.ReLU: jax.nn.relu, nn.Tanh: jnp.tanh, nn.LeakyReLU: jax.nn.leaky_relu}
    return simple[type(layer)](h)


def on_gpu() -> bool:
    """Return whether JAX computes on a GPU."""
    return jax.default_backend() == "gpu"


def array(x: torch.Tensor) -> Array:
    """Return a tensor as an array of jax."""
    return jnp.asarray(x.detach().cpu().numpy())
