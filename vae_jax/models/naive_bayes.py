"""Independent binary pixels, and naive Bayes, where their probabilities depend on the class c.

p(x) = Π_d Bernoulli(x_d; μ_d)          p(x, c) = π_c Π_d Bernoulli(x_d; μ_cd)
"""

import jax
import jax.numpy as jnp

from vae_jax import spec
from vae_jax.core import Model, Sums, tractable
from vae_jax.distributions import Bernoulli, Mixture


def naive_bayes(event_shape, *, num_classes=0, smoothing=1.0, given_class=True) -> Model:
    """Return naive Bayes, fitted by `counting`: μ_cd = (n_cd + a) / (n_c + 2a), π_c = (n_c + a) / (n + a C).

    The context is the class c, and the density is p(x|c). Without a context the density is p(x) = Σ_c π_c p(x|c). As a
    classifier, p(c|x) ∝ π_c p(x|c), use `tasks.cluster.label` of that mixture. A class that was never seen has π_c > 0.

    Args:
      event_shape: the shape of x.
      num_classes: C; 0 for one distribution without classes.
      smoothing: a > 0 (Laplace).
      given_class: False to use the class only for counting: the density is then p(x) also with a context.

    Raises `BadOption` for a smoothing that is not positive: a pixel that was never 1 would be impossible.
    """
    spec.numbers(smoothing=smoothing, above=0)
    spec.flags(given_class=given_class)
    size = max(1, num_classes)

    def init(key, batch):
        return {"class_logits": jnp.zeros(size), "pixel_logits": jnp.zeros((size, *event_shape))}

    def density(params, context=None):
        if num_classes and (context is None or not given_class):
            return Mixture(params["class_logits"], Bernoulli(params["pixel_logits"]))
        return Bernoulli(jnp.take(params["pixel_logits"], context if num_classes else 0, axis=0))

    def expect(params, batch):
        x = batch["x"]
        context = batch.get("context") if num_classes else None
        classes = jnp.ones((len(x), 1)) if context is None else jax.nn.one_hot(context, size)
        bright = jnp.tensordot(classes, x, axes=((0,), (0,)))
        log_prob = jax.vmap(lambda x, c: density(params, c).log_prob(x))(x, context)
        return {"count": jnp.sum(classes, axis=0), "bright": bright}, log_prob

    def maximize(params, sums):
        count = sums["count"].reshape(size, *[1] * len(event_shape))
        odds = jnp.log(sums["bright"] + smoothing) - jnp.log(count - sums["bright"] + smoothing)
        return {"class_logits": jnp.log(sums["count"] + smoothing), "pixel_logits": odds}

    return tractable(init, density, sums=Sums(expect, maximize, one_pass=True))


def from_config(*, event, context, smoothing, given_class=True) -> Model:
    """Return the model from the keys of a config; the learner is `counting`. A context must be a label."""
    if context is not None and context.shape != ():
        raise spec.BadOption(
            f": the family 'naive_bayes' requires a label as context, got one of shape {context.shape}"
        )
    num_classes = 0 if context is None else context.support.num_levels
    return naive_bayes(event.shape, num_classes=num_classes, smoothing=smoothing, given_class=given_class)
