"""What a plan for the sites of a model and guide depends on."""

from __future__ import annotations

from collections.abc import Hashable

from pyro.poutine.mask_messenger import MaskMessenger
from pyro.poutine.scale_messenger import ScaleMessenger

from ppl_vae.elbos.kl_weights.program import WeighsSites
from ppl_vae.elbos.sites.closed_kl import layers
from ppl_vae.elbos.sites.draws import Draw, Program, unwrapped
from ppl_vae.elbos.sites.kl_plan import same_weights
from ppl_vae.elbos.sites.traces import latent_sites, sample_sites


def structure(draw: Draw, program: Program) -> tuple[Hashable, ...]:
    """Return a key that is the same as long as the plan may stay the same.

    It is made of model and guide themselves, the sites of both in their order with the classes of
    their distributions, whether the two sides weigh each latent alike, and the arguments that are
    flags. Programs that differ in anything else are taken for the same.
    """
    in_guide = latent_sites(draw.guide)
    sites = [
        tuple(
            (name, (*map(type, layers(site["fn"])),), site["is_observed"])
            for name, site in in_trace.items()
        )
        for in_trace in (sample_sites(t, lambda _: True) for t in (draw.model, draw.guide))
    ]
    in_model = latent_sites(draw.model)
    weights = [same_weights(s, in_guide[n]) for n, s in in_model.items() if n in in_guide]
    arguments = [*enumerate(program.args), *sorted(program.kwargs.items())]
    flags = [(place, v) for place, v in arguments if v is None or isinstance(v, (bool, str))]
    # What weighs the sites is wrapped around the functions again at every step.
    weighs = (ScaleMessenger, MaskMessenger, WeighsSites)
    functions = (unwrapped(program.model, *weighs), unwrapped(program.guide, *weighs))
    return *functions, *sites, *weights, *flags
