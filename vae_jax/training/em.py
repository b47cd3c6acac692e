"""Generalised EM for a model with an encoder and a decoder: φ and θ, which tighten and raise the bound, take turns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vae_jax.core import Learner
from vae_jax.training.gradient import gradient


def em(model, optimizers, *, turns, **options) -> Learner:
    """Gradient descent whose steps go to one part of `params` at a time: `turns` {"encoder": 5, "decoder": 1} gives
    five steps to φ (an E step, as far as q can follow), then one to θ (an M step), and so on.

    `optimizers` holds an Optax optimiser for every part; `options` are those of `training.gradient`. More steps for the
    encoder keep it from lagging, against collapse, arXiv:1901.05534. The gradient is computed of all parts at every
    step. Raises `ValueError` where a part has no optimiser, no turn, or there is no such part.
    """
    return gradient(model, alternating(optimizers, turns=turns), **options)


def alternating(optimizers, *, turns) -> optax.GradientTransformation:
    """An Optax optimiser of {part: parameters} that updates one part at a time, in the order of `turns`, and leaves
    the others and their own optimisers' states as they are.
    """
    if set(optimizers) != set(turns):
        raise ValueError(f"optimizers are for {sorted(optimizers)}, turns for {sorted(turns)}: they must agree")
    if any(count < 1 for count in turns.values()):
        raise ValueError(f"every part needs at least one step a turn, got {turns}")
    whose = np.asarray([i for i, count in enumerate(turns.values()) for _ in range(count)])

    def init(params):
        if set(params) != set(turns):
            raise ValueError(f"turns are for {sorted(turns)}, and the parameters are of {sorted(params)}")
        return {"step": jnp.zeros((), jnp.int32)} | {part: optimizers[part].init(params[part]) for part in turns}

    def update(gradients, state, params=None):
        updates, new = {}, {"step": state["step"] + 1}
        turn = jnp.asarray(whose)[state["step"] % len(whose)]
        for i, part in enumerate(turns):

            def move(part=part):
                return optimizers[part].update(gradients[part], state[part], None if params is None else params[part])

            def rest(part=part):
                return jax.tree.map(jnp.zeros_like, gradients[part]), state[part]

            updates[part], new[part] = jax.lax.cond(turn == i, move, rest)
        return updates, new

    return optax.GradientTransformation(init, update)
