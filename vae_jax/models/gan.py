"""Generative adversarial networks, arXiv:1406.2661, with or without a context, and with the penalties of R3GAN.

z ~ N(0, I)        x = G(z, c)        D(x, c): a number, larger for real x

The generator G has no density: there is no log p(x) and no bound. `sample` is the only field. `observed` adds noise,
p(x|z) = N(G(z), s² I), which has a density: annealed importance sampling then estimates log p(x), arXiv:1611.04273.

The critic sees x on the scale [-1, 1]: levels 0..V-1, numbers in [0, 1] and bits are scaled; real numbers are not. G
ends in tanh, except for real numbers. Real levels and bits lie on a grid, and draws do not. A critic may notice that;
dequantised levels (`Unit`) hide it.
"""

import jax
import jax.numpy as jnp

from vae_jax import core, networks
from vae_jax.core import Aux, Latent, Model, embedded
from vae_jax.distributions import Normal
from vae_jax.networks.network import compute_in
from vae_jax.objectives import adversarial, schedules
from vae_jax.spec import BadOption, build, integers, numbers, one_of
from vae_jax.support import Binary, Levels, Real, Unit, centred

TAKES = (Real, Unit, Binary, Levels)  # the supports that the family models
PENALTIES = ("r1", "r2", "gradient_penalty")
stop_gradient = jax.lax.stop_gradient


def gan(generator, critic, *, event, latent_dim, loss="relativistic", penalty_every=1, context=None, **penalties):
    """Return a GAN. Its parts are "generator" and "critic"; one sum of losses gives each its own gradient.

    critic:     `loss`.critic + [r1/2 |∇D(x)|² + r2/2 |∇D(G(z))|² + gradient_penalty (|∇D(x̂)| - 1)²]
    generator:  `loss`.generator

    x and G(z) of a pair have the same context. Each player may have an optimiser (`training.gradient.by_part`). The
    learner `alternating` with `encoder` = ("critic",) makes n steps of the critic for one of the generator. With
    `average_decay` of the learner, draws are those of the averaged generator.

    Args:
      generator: a network, z and c -> (an array of the shape of x,).
      critic: a network, x and c -> (a number,).
      event: the `core.Event` x.
      latent_dim: D, the size of z.
      loss: a name among `objectives.adversarial.LOSSES`.
      penalty_every: n, the penalties are computed at every n-th step, times n (arXiv:1912.04958 sec. 3.1).
        1 with the learner `alternating`, in which the critic moves only at some of these steps.
      context: the `core.Context` c; None for none.
      **penalties: `r1`, `r2` and `gradient_penalty`, weights of at least 0 or schedules of the step.
    """
    pairing = adversarial.LOSSES[loss]
    weights = {name: weight for name, weight in penalties.items() if not _is_zero(weight)}
    generate = generated(generator, event, context)

    def score(variables, x, c):
        return critic.apply(variables, x, embedded(context, c))[0]

    def init(key, batch):
        key_generator, key_critic = jax.random.split(key)
        x, c = core.first_example(batch)
        c = embedded(context, c)
        return {
            "generator": generator.init(key_generator, jnp.zeros(latent_dim), c),
            "critic": critic.init(key_critic, centred(event.support, x), c),
        }

    def draw(params, key, x, c):
        return generate(params, jax.random.normal(key, (latent_dim,)), c)

    def game(params, x, fake, c):
        real = centred(event.support, x)
        return adversarial.game(pairing, lambda critic, x: score(critic, x, c), params["critic"], real, fake)

    def penalty(params, key, x, fake, c, step):
        real, fake = centred(event.support, x), stop_gradient(fake)
        of_x = lambda x: score(params["critic"], x, c)  # noqa: E731
        values = {
            "r1": lambda: 0.5 * adversarial.zero_centred(of_x, real),
            "r2": lambda: 0.5 * adversarial.zero_centred(of_x, fake),
            "gradient_penalty": lambda: adversarial.one_centred(of_x, key, real, fake),
        }
        return sum(weight * values[name]() for name, weight in schedules.resolve(weights, step).items())

    def loss_of(params, key, batch, step):
        x, c = batch["x"], batch.get("context")
        fake = core.per_example(draw)(params, key, batch)
        players = jax.vmap(game, (None, 0, 0, 0))(params, x, fake, c)
        terms = players._asdict()
        if weights:
            keys = jax.random.split(jax.random.fold_in(key, len(x)), len(x))
            of_batch = lambda: jax.vmap(penalty, (None, 0, 0, 0, 0, None))(params, keys, x, fake, c, step)  # noqa: E731
            if penalty_every == 1:
                terms["penalty"] = of_batch()
            else:
                nothing = lambda: jnp.zeros_like(players.critic)  # noqa: E731
                turn = step % penalty_every == 0
                terms["penalty"] = jax.lax.cond(turn, lambda: penalty_every * of_batch(), nothing)
        return sum(terms.values()), Aux(terms)

    def judge(params, key, x, c=None):
        players = game(params, x, draw(params, key, x, c), c)
        return {"loss": sum(players), **players._asdict()}

    def sample(params, key, c=None):
        return from_generator(event.support, draw(params, key, None, c))

    return Model(init, loss_of, judge, sample=sample)


def generated(generator, event, context=None):
    """Return the function (params, z, context) -> G(z, c) on the scale of the critic."""

    def generate(params, z, c=None):
        (x,) = generator.apply(params["generator"], z, embedded(context, c))
        return x if isinstance(event.support, Real) else jnp.tanh(x)

    return generate


def from_generator(support, x):
    """Return draws on the scale of the data. Levels and bits are rounded."""
    if isinstance(support, Real):
        return x
    x = 0.5 * (x + 1.0)
    return x if isinstance(support, Unit) else jnp.round(x * (support.num_levels - 1))


def _is_zero(weight):
    return isinstance(weight, int | float) and weight == 0


def observed(generator, *, event, latent_dim, scale, context=None) -> Model:
    """Return the model p(z) = N(0, I), p(x|z) = N(G(z), s² I) of a trained generator.  arXiv:1611.04273 sec. 2.

    Its log p(x) is estimated by `evaluation.annealed`, with chains that start at p(z). There is no encoder:
    `posterior` is p(z), so importance weights without annealing are honest and very loose. It has no training.

    Args:
      generator: the network of the GAN.
      event: the `core.Event` x, real numbers or numbers in [0, 1].
      latent_dim: D, the size of z.
      scale: s, in the units of x.
      context: the `core.Context` c; None for none.

    Raises `BadOption` for levels and bits, which have no density.
    """
    numbers(scale=scale, above=0)
    if not isinstance(event.support, Real | Unit):
        raise BadOption(
            f"scale: a Gaussian observation is a density of real numbers, and the data are {event.support}; train with "
            "the transform 'dequantize', 'unit' or 'real'"
        )
    generate = generated(generator, event, context)

    def prior(params, c=None):
        return Normal(jnp.zeros(latent_dim), jnp.zeros(latent_dim))

    def likelihood(params, z, c=None):
        mean = from_generator(event.support, generate(params, z, c))
        return Normal(mean, jnp.full_like(mean, jnp.log(scale)))

    def sample(params, key, c=None):
        key_z, key_x = jax.random.split(key)
        return likelihood(params, prior(params).sample(key_z), c).sample(key_x)

    def untrained(*_):
        raise ValueError("the observation model of a trained GAN is only measured; train the GAN itself")

    latent = Latent(prior, lambda params, x, c=None: prior(params), likelihood)
    return Model(untrained, untrained, untrained, sample=sample, latent=latent)


def from_config(
    *,
    event,
    context,
    latent_dim,
    generator,
    critic,
    loss="relativistic",
    r1=0.0,
    r2=0.0,
    gradient_penalty=0.0,
    penalty_every=1,
    compute_dtype="float32",
    observation_scale=None,
) -> Model:
    """Return a GAN from plain dicts: `generator` and `critic` have the `name` of a network, and its options.

    Args:
      event: the `core.Event` x.
      context: the `core.Context` c; None for none.
      latent_dim: D, the size of z.
      generator: a network of `networks`, such as "generator" or "mlp".
      critic: a network of `networks`, such as "critic" or "mlp".
      loss: "relativistic", "nonsaturating", "hinge" or "wasserstein" (`objectives.adversarial`).
      r1: γ of γ/2 |∇D|² at real x, a number or a schedule such as `{"name": "linear", "steps": 1000}`.
      r2: γ of γ/2 |∇D|² at draws.
      gradient_penalty: λ of WGAN-GP.
      penalty_every: the penalties are computed at every n-th step, times n.
      compute_dtype: the precision of the networks, "float32" or "bfloat16".
      observation_scale: None for the GAN; s for the model `observed` of its trained generator.

    Raises `BadOption` that names the key, also for the loss "wasserstein" without a penalty, whose critic diverges.
    """
    integers(latent_dim=latent_dim, penalty_every=penalty_every)
    one_of(tuple(adversarial.LOSSES), loss=loss)
    penalties = {"r1": r1, "r2": r2, "gradient_penalty": gradient_penalty}
    for name, weight in penalties.items():
        if isinstance(weight, dict):
            penalties[name] = build(schedules, weight, where=name)
        else:
            numbers(**{name: weight}, at_least=0)
    if loss == "wasserstein" and all(map(_is_zero, penalties.values())):
        raise BadOption("loss: 'wasserstein' requires a critic of bounded slope; set gradient_penalty, or r1 and r2")

    def network(spec, shape, where):
        return compute_in(compute_dtype, build(networks, spec, (shape,), where=where))

    built = network(generator, tuple(event.shape), "generator")
    options = {"event": event, "latent_dim": latent_dim, "context": context}
    if observation_scale is not None:
        return observed(built, scale=observation_scale, **options)
    options |= {"loss": loss, "penalty_every": penalty_every}
    return gan(built, network(critic, (), "critic"), **penalties, **options)
