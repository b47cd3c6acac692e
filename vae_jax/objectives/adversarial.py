"""Games of two players: the losses of a generator and a critic, the penalties of a critic, and two games over codes.

A critic D returns one number for an example, larger for real ones: the logit of "real", or a score without bounds. The
players of one pair (x, G(z)) minimise `Players`. `game` gives each player its own gradient in one sum of losses.

The critic must be a function of one example. Normalisation over a batch would make its gradient penalties wrong. They
are squares over ALL axes of an example; a norm over the channels only is another, weaker penalty.

`adversarial_autoencoder` and `vae_gan` are equations of a latent-variable model, like those of `objectives.bounds`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.distributions import has_closed_form, kl_divergence
from vae_jax.numerics import straight_through
from vae_jax.objectives.bounds import draws, pair
from vae_jax.objectives.equation import OwnNetwork, check_mean, check_pathwise, check_single, equation, number
from vae_jax.support import standardize

stop_gradient = jax.lax.stop_gradient
softplus = jax.nn.softplus
WEIGHT = number(at_least=0)
NUM_FEATURES = 64  # of the critic of `vae_gan`


class Players(NamedTuple):
    """The losses of the two players for one pair; both are minimised."""

    critic: jax.Array
    generator: jax.Array


# --------------------------------------------------------------------------------- losses of one pair of real and fake


def nonsaturating(real, fake) -> Players:
    """The non-saturating game of arXiv:1406.2661 sec. 3, in nats; σ(D) is the probability that x is real.

    critic: -log σ(D(x)) - log(1 - σ(D(G(z))))        generator: -log σ(D(G(z)))

    At equilibrium D = 0: the critic's loss is 2 log 2 = 1.386 and the generator's log 2 = 0.693.
    """
    return Players(softplus(-real) + softplus(fake), softplus(-fake))


def hinge(real, fake) -> Players:
    """The hinge game of arXiv:1705.02894 and arXiv:1802.05957 eq. (16) and (17).

    critic: max(0, 1 - D(x)) + max(0, 1 + D(G(z)))        generator: -D(G(z))
    """
    return Players(jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake), -fake)


def wasserstein(real, fake) -> Players:
    """The Wasserstein game of arXiv:1701.07875.

    critic: D(G(z)) - D(x)        generator: -D(G(z))

    The critic must have slopes of at most 1, for example by `one_centred`. Minus its loss then estimates the distance.
    """
    return Players(fake - real, -fake)


def relativistic(real, fake) -> Players:
    """The relativistic game of arXiv:1807.00734, in nats: the critic compares the two examples of a pair.

    critic: softplus(-(D(x) - D(G(z))))        generator: softplus(-(D(G(z)) - D(x)))

    With R1 and R2 (`zero_centred`) it is R3GAN, arXiv:2501.05441. A generator that drops modes is pushed away from
    this state, because its draws lose against each real example. At equilibrium both losses are log 2 = 0.693.
    """
    return Players(softplus(fake - real), softplus(real - fake))


LOSSES = {loss.__name__: loss for loss in (relativistic, nonsaturating, hinge, wasserstein)}


def game(loss, score, critic, real, fake) -> Players:
    """Return the losses of one pair. The gradient of their sum is each player's gradient of its own loss.

    The critic's loss sees the draw without its gradient, the generator's loss sees the critic without its gradient.

    Args:
      loss: one of `LOSSES`.
      score: (critic, x) -> D(x).
      critic: the parameters of the critic.
      real: an example x on the scale of the critic.
      fake: a draw G(z), a function of the generator's parameters.
    """
    fixed = stop_gradient(critic)
    of_critic = loss(score(critic, real), score(critic, stop_gradient(fake))).critic
    return Players(of_critic, loss(score(fixed, real), score(fixed, fake)).generator)


# ------------------------------------------------------------------------------------------- penalties of one example


def zero_centred(score: Callable, x):
    """Return the squared slope |∇_x D(x)|² over all axes of x.  arXiv:1801.04406 eq. (9) and (10).

    The penalty R1 is γ/2 of it at real x, R2 is γ/2 of it at draws x = G(z). Draws must come without gradient.
    """
    return jnp.sum(jnp.square(jax.grad(score)(x)))


def one_centred(score: Callable, key, real, fake):
    """Return (|∇D(x̂)| - 1)² at x̂ = u x + (1-u) G(z), u uniform in [0, 1].  arXiv:1704.00028 eq. (3).

    The norm is over all axes of x̂. WGAN-GP takes λ = 10 of it. Draws must come without gradient.
    """
    u = jax.random.uniform(key)
    norm = jnp.sqrt(zero_centred(score, u * real + (1.0 - u) * fake) + 1e-12)  # the root has no slope at 0
    return jnp.square(norm - 1.0)


# --------------------------------------------------------------------------- games of a model with codes: equations


@equation(networks={"critic": OwnNetwork("z", ((),))}, weight=WEIGHT)
def adversarial_autoencoder(latent, params, key, x, context=None, *, weight, critic):
    """The adversarial auto-encoder: E_q[log p(x|z)] - λ L, where L = softplus(-D(z)).  arXiv:1511.05644 sec. 2.

    The critic D tells draws of p(z) from codes z ~ q(z|x), by the loss softplus(-D(z')) + softplus(D(z)), z' ~ p(z).
    The encoder plays against it, so that q(z) = E_{p(x)}[q(z|x)] resembles p(z). With λ it is the WAE-GAN of
    arXiv:1711.01558. `critic` is z -> (D,), a `jax.tree_util.Partial` of its parameters, and learns in the same step.

    The rate costs nothing, so `bound`, the ELBO, may be poor. It is a bound nevertheless, because q(z|x) is a density.
    Further terms are the losses `critic`, log 4 if it cannot tell them apart, and `generator`, L.

    Args:
      weight: λ, in nats of the reconstruction.
      critic: the function above.

    Raises `BadOption` if no gradient passes through draws of q(z|x).
    """
    name = "adversarial_autoencoder"
    terms, z, prior, _ = _encoded(name, latent, params, key, x, context)
    drawn = stop_gradient(prior.sample(jax.random.fold_in(key, 1)))
    players = game(nonsaturating, lambda critic, z: critic(z)[0], critic, drawn, z)
    value = -terms["distortion"] - weight * players.generator + straight_through(0.0, -players.critic)
    return value, {**terms, **players._asdict()}


@equation(networks={"critic": OwnNetwork("x", ((NUM_FEATURES,),))}, weight=WEIGHT, beta=WEIGHT, r1=WEIGHT)
def vae_gan(latent, params, key, x, context=None, *, weight, critic, beta=1.0, r1=0.0):
    """The VAE-GAN: -½ E_q|f(x) - f(x̃)|² - β KL(q(z|x) || p(z)) - λ L.  arXiv:1512.09300 eq. (7) to (9), alg. 1.

    x̃ = E[x|z] with z ~ q(z|x), and x' = E[x|z'] with z' ~ p(z). The critic has the features f and the logit D =
    2 Σ_k ±leaky_relu(f_k) / √F with alternating signs: f is its last hidden layer. Its loss is softplus(-D(x)) +
    ½ [softplus(D(x̃)) + softplus(D(x'))]. The decoder pays λ L = λ ½ [softplus(-D(x̃)) + softplus(-D(x'))], which does
    not reach the encoder. λ is 1/γ of the paper. `critic` is x -> (f [64],), as in `adversarial_autoencoder`.

    Pixels cost nothing in training. p(x|z) is a density of pixels nevertheless, so `bound`, the ELBO, is a bound.
    Further terms are `features`, ½|f(x) - f(x̃)|², and the losses `critic` and `generator`, L.

    Args:
      weight: λ.
      critic: the function above.
      beta: β, 1 in the paper.
      r1: γ of the critic's penalty γ/2 |∇D(x)|², 0 in the paper (`zero_centred`). The slope is that in x on the scale
        that networks see.

    Raises `BadOption` if no gradient passes through draws of q(z|x), or through E[x|z].
    """
    name = "vae_gan"
    terms, z, prior, likelihood = _encoded(name, latent, params, key, x, context)
    check_mean(name, likelihood)

    def image(z):
        return latent.likelihood(params, z, context).mean()

    def features(critic, x):
        return critic(x)[0]

    def score(critic, x):
        h = jax.nn.leaky_relu(features(critic, x), 0.2)
        return jnp.mean(h[::2] - h[1::2]) * jnp.sqrt(NUM_FEATURES)

    fixed = stop_gradient(critic)
    apart = 0.5 * jnp.sum(jnp.square(features(fixed, x) - features(fixed, likelihood.mean())))
    drawn = stop_gradient(prior.sample(jax.random.fold_in(key, 1)))
    games = [game(nonsaturating, score, critic, x, image(code)) for code in (stop_gradient(z), drawn)]
    players = jax.tree.map(lambda a, b: 0.5 * (a + b), *games)
    scale = jax.grad(lambda x: jnp.sum(standardize(likelihood.support, x)))(x)  # of what networks see
    scale = jnp.where(scale == 0, 1.0, scale)  # of a category
    penalty = 0.5 * r1 * zero_centred(lambda shift: score(critic, x + shift / scale), jnp.zeros_like(x))
    value = -apart - beta * terms["rate"] - weight * players.generator
    value += straight_through(0.0, -players.critic - penalty)
    return value, {**terms, "features": apart, **players._asdict()}


def _encoded(name, latent, params, key, x, context):
    """Return the terms of the ELBO, z ~ q(z|x), p(z) and p(x|z) for the equation `name`."""
    q, prior = pair(latent, params, x, context)
    check_pathwise(name, q)
    check_single(name, q)
    z, log_q = (a[0] for a in draws(q, key, 1))
    likelihood = latent.likelihood(params, z, context)
    log_lik = likelihood.log_prob(x)
    rate = kl_divergence(q, prior) if has_closed_form(q, prior) else log_q - prior.log_prob(z)
    return {"bound": log_lik - rate, "distortion": -log_lik, "rate": rate}, z, prior, likelihood
