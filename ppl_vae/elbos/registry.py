"""The ELBO estimators, by name, with what each claims; a test measures the claims."""

from __future__ import annotations

from pyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from ppl_vae.elbos.continuous.analytic_kl import TraceAnalyticKL_ELBO
from ppl_vae.elbos.continuous.dreg import TraceDReG_ELBO
from ppl_vae.elbos.continuous.exact import Exact_ELBO
from ppl_vae.elbos.continuous.generalised_dreg import TraceGDReG_ELBO
from ppl_vae.elbos.continuous.iwae import TraceIWAE_ELBO
from ppl_vae.elbos.continuous.sticking_the_landing import TraceSTL_ELBO
from ppl_vae.elbos.discrete.disarm import TraceDisARM_ELBO
from ppl_vae.elbos.discrete.enumerate import TraceEnumerate_ELBO
from ppl_vae.elbos.discrete.leave_one_out import TraceLeaveOneOut_ELBO
from ppl_vae.elbos.discrete.reweighted_wake_sleep import TraceReweightedWakeSleep_ELBO
from ppl_vae.elbos.discrete.score_function import TraceScoreFunction_ELBO
from ppl_vae.elbos.discrete.straight_through import TraceStraightThrough_ELBO
from ppl_vae.elbos.discrete.vimco import TraceVIMCO_ELBO
from ppl_vae.elbos.estimator import Estimator

REPARAMETERISED = "reparameterised sites"
IN_PLATE = "latents inside of the plate 'data'"
SEVERAL = "two particles or more"

ESTIMATORS: dict[str, Estimator] = {
    "trace": Estimator(
        Trace_ELBO,
        cost="one pass through guide and model",
        source="Wingate and Weber 2013; Ranganath, Gerrish and Blei 2014",
    ),
    "trace-mean-field": Estimator(
        TraceMeanField_ELBO,
        condition="no latent's parents in the model descend from it in the guide",
        needs=(REPARAMETERISED,),
        cost="one pass through guide and model; a site without a registered KL is sampled",
        source="Kingma and Welling 2014, equation 7",
    ),
    "trace-graph": Estimator(
        TraceGraph_ELBO,
        cost="one pass through guide and model, and their dependency graph",
        source="Schulman, Heess, Weber and Abbeel 2015",
    ),
    "analytic-kl": Estimator(
        TraceAnalyticKL_ELBO,
        needs=(REPARAMETERISED,),
        cost="one pass through guide and model",
        source="Kingma and Welling 2014, equation 7, where it holds",
    ),
    "enumerate": Estimator(
        TraceEnumerate_ELBO,
        needs=("discrete latents with finitely many states; others reparameterised",),
        cost="a pass through guide and model for all states of the discrete latents",
        source="Kingma, Rezende, Mohamed and Welling 2014, equation 7",
    ),
    "sticking-the-landing": Estimator(
        TraceSTL_ELBO,
        needs=(REPARAMETERISED,),
        cost="one pass through guide and model, and one more back to the latents",
        source="Roeder, Wu and Duvenaud 2017",
    ),
    "score-function": Estimator(
        TraceScoreFunction_ELBO,
        cost="one pass through guide and model",
        source="Williams 1992; Ranganath, Gerrish and Blei 2014",
    ),
    "leave-one-out": Estimator(
        TraceLeaveOneOut_ELBO,
        needs=(SEVERAL,),
        cost="a pass through guide and model for each particle",
        source="Kool, van Hoof and Welling 2019",
    ),
    "disarm": Estimator(
        TraceDisARM_ELBO,
        needs=("pairs of particles", "Bernoulli latents; others reparameterised"),
        cost="for each pair a pass through guide and model, and one more for each site of bits",
        source="Dong, Mnih and Tucker 2020",
    ),
    "straight-through": Estimator(
        TraceStraightThrough_ELBO,
        gradient="biased",
        needs=("a temperature, here 0.5", "Bernoulli or one-hot latents; others reparameterised"),
        cost="one pass through guide and model",
        source="Jang, Gu and Poole 2017",
        options={"temperature": 0.5},
    ),
    "vimco": Estimator(
        TraceVIMCO_ELBO,
        bound="importance-weighted",
        needs=(SEVERAL, IN_PLATE),
        cost="a pass through guide and model for each particle",
        source="Mnih and Rezende 2016",
    ),
    "reweighted-wake-sleep": Estimator(
        TraceReweightedWakeSleep_ELBO,
        bound="importance-weighted",
        # The model's gradient is that of the bound; the guide follows another objective.
        gradient="biased",
        needs=(SEVERAL, IN_PLATE),
        cost="a pass through guide and model for each particle",
        source="Bornschein and Bengio 2015; Le, Kosiorek, Siddharth, Teh and Wood 2019",
    ),
    "iwae": Estimator(
        TraceIWAE_ELBO,
        bound="importance-weighted",
        needs=(REPARAMETERISED, IN_PLATE),
        cost="a pass through guide and model for each particle",
        source="Burda, Grosse and Salakhutdinov 2015",
    ),
    "dreg": Estimator(
        TraceDReG_ELBO,
        bound="importance-weighted",
        needs=(REPARAMETERISED, IN_PLATE),
        cost="that of iwae, and one more pass back to the latents",
        source="Tucker, Lawson, Gu and Maddison 2019",
    ),
    "generalised-dreg": Estimator(
        TraceGDReG_ELBO,
        bound="importance-weighted",
        needs=(REPARAMETERISED, IN_PLATE, "learned priors that are reparameterised too"),
        cost="that of dreg, one more pass back to the latents, and the priors' noise",
        source="Bauer and Mnih 2021",
    ),
    "renyi": Estimator(
        RenyiELBO,
        bound="importance-weighted",
        condition="every site is inside of the plate, and the plate does not subsample",
        needs=(REPARAMETERISED,),
        cost="a pass through guide and model for each particle",
        source="Li and Turner 2016, at alpha = 0",
        options={"alpha": 0},
    ),
    "exact": Estimator(
        Exact_ELBO,
        value="exact",
        gradient="exact",
        needs=("a pair with a closed form",),
        cost="one evaluation of the closed form",
        source="ppl_vae.closed_forms",
    ),
}
