"""Reconstructions of token sequences by hand: sums over time, padding, and targets."""

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from diagnostics.small_programs import Net, Program

STEPS, TOKENS, PAD = 6, 5, 0


def sequences(*, padded):
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(1, TOKENS, (24, STEPS), generator=generator)
    length = torch.randint(2, STEPS + 1, (24, 1), generator=generator)
    if padded:
        x = torch.where(torch.arange(STEPS) < length, x, PAD)
    return x.to(torch.get_default_dtype())


def logits_of(outputs):
    return outputs.unflatten(-1, (STEPS, TOKENS))


def plain(outputs, x):
    return dist.Categorical(logits=logits_of(outputs)).to_event(1)


def masked(outputs, x):
    return dist.Categorical(logits=logits_of(outputs)).mask(x != PAD).to_event(1)


def _entropies(net, x, z, **options):
    logits = logits_of(net.decoder(z)).transpose(1, 2)
    return F.cross_entropy(logits, x.long(), reduction="none", **options)


def _of(likelihood):
    def program(name, score, *says):
        def make():
            net = Net(STEPS, STEPS * TOKENS, likelihood)

            def loss(x):
                z, kl = net.sampled(x)
                return (score(net, x, z) + kl).mean()

            return (net.model, net.guide), sequences(padded=likelihood is masked), loss

        return Program(name, make, says)

    return program


_plain, _masked = _of(plain), _of(masked)


def _shifted(net, x, z):
    logits = logits_of(net.decoder(z))[:, :-1].transpose(1, 2)
    return F.cross_entropy(logits, x[:, 1:].long(), reduction="none").sum(-1)


SEQUENCES = [
    _plain("tokens", lambda n, x, z: _entropies(n, x, z).sum(-1)),
    _plain("mean over time", lambda n, x, z: _entropies(n, x, z).mean(-1), "1/6", "averaged"),
    _plain(
        "mean over batch and time", lambda n, x, z: _entropies(n, x, z).mean(), "1/6", "averaged"
    ),
    _plain("targets shifted", _shifted, "shifted by one", "later"),
    _plain(
        "targets rolled",
        lambda n, x, z: _entropies(n, x.roll(1, -1), z).sum(-1),
        "shifted by one",
        "earlier",
    ),
    _plain(
        "last step left out", lambda n, x, z: _entropies(n, x, z)[:, :-1].sum(-1), "last position"
    ),
    _plain(
        "a token ignored",
        lambda n, x, z: _entropies(n, x, z, ignore_index=3).sum(-1),
        "class 3",
        "ignore_index",
    ),
    _plain(
        "label smoothing",
        lambda n, x, z: _entropies(n, x, z, label_smoothing=0.1).sum(-1),
        "label smoothing",
    ),
    _plain(
        "softmax twice",
        lambda n, x, z: F.cross_entropy(
            logits_of(n.decoder(z)).softmax(-1).transpose(1, 2), x.long(), reduction="none"
        ).sum(-1),
        "softmax twice",
    ),
    _plain(
        "no logarithm",
        lambda n, x, z: F.nll_loss(
            logits_of(n.decoder(z)).softmax(-1).transpose(1, 2), x.long(), reduction="none"
        ).sum(-1),
        "logarithm",
    ),
    _masked("padded tokens", lambda n, x, z: _entropies(n, x, z, ignore_index=PAD).sum(-1)),
    _masked("padding counted", lambda n, x, z: _entropies(n, x, z).sum(-1), "mask", "padding"),
    _masked(
        "mean over what is not padding",
        lambda n, x, z: (_entropies(n, x, z) * (x != PAD)).sum(-1) / (x != PAD).sum(-1),
        "mean",
        "example's unmasked",
    ),
    _masked(
        "mean over the batch's tokens",
        lambda n, x, z: F.cross_entropy(
            logits_of(n.decoder(z)).transpose(1, 2), x.long(), ignore_index=PAD
        ),
        "mean",
        "batch's unmasked",
    ),
    _masked(
        "mean over time, padding counted",
        lambda n, x, z: _entropies(n, x, z).mean(-1),
        "mean",
        "mask",
    ),
    _masked(
        "mask the wrong way",
        lambda n, x, z: (_entropies(n, x, z) * (x == PAD)).sum(-1),
        "what is masked",
    ),
]
