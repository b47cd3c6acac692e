"""Pen drawings: the chain rule over the points of a drawing, with all conditionals from one recurrent network.

p(x_1, ..., x_N | c) = Π_t `p(x_t | x_<t, c)`     x_t = (Δx, Δy, pen), the pen of the last point says that it is the end

Δ is a mixture of normals as in arXiv:1308.0850, here with masses on the integer lattice (`distributions.PenPoints`):
log p is the logarithm of a probability, and -log p a code length. The context c is a class, or nothing.
"""

from vae_jax import core, networks
from vae_jax.conditionals import chains
from vae_jax.conditionals import strokes as pens
from vae_jax.core import Model, embedded, tractable
from vae_jax.spec import call
from vae_jax.support import Strokes

TAKES = (Strokes,)


def strokes(network, event, *, head, context=None) -> Model:
    """Return a model of drawings, fitted by `gradient`: `network` returns the parameters of `head` at every point.

    A draw at a temperature is `model.density(params, c).sample(key, temperature)`, one scan over the points. In
    training a network with dropout has a new mask for every drawing and step. `log_prob` never drops.

    Args:
      network: built by `networks.pen_lstm`.
      event: the `core.Event` x, [T, 3].
      head: the head of a point, `conditionals.strokes.pen_points`.
      context: the `core.Context` c; None for none.
    """
    chain = pens.drawing(network, head, event.shape[0], event.support.limit)

    def density(params, c=None, dropout_key=None):
        return chain(params, embedded(context, c), dropout_key)

    def init(key, batch):
        x, c = core.first_example(batch)
        return chains.weights_of(network, head, key, x, embedded(context, c))

    return tractable(init, density, drops=network.drops)


def from_config(*, event, context, network, num_components=20, scale=10.0, atoms=0) -> Model:
    """Return a model of drawings from a dict.

    Args:
      event: the `core.Event` x, [T, 3].
      context: the `core.Context` c; None for none.
      network: options of `networks.pen_lstm`, except the scale.
      num_components: M, the number of normals in the mixture of a point.
      scale: the usual size of an offset, in lattice units: about the median.
      atoms: L, so that offsets from -L to L also have masses of their own (`distributions.PenPoints`); 0 for none.
    """
    head = call(
        pens.pen_points,
        {"num_components": num_components, "scale": scale, "atoms": atoms},
        event.support.limit,
        where="",
    )
    return strokes(
        call(networks.pen_lstm, network, head.shapes, scale=scale, atoms=atoms, where="network"),
        event,
        head=head,
        context=context,
    )
