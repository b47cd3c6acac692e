"""Tied weights: a dense decoder whose kernels are the transposes of the encoder's, last layer first.

W_decoder[l] = W_encoder[L + 1 - l]ᵀ (Vincent et al. 2010, sec. 2.1): half the parameters, and a kernel learns from both
uses.
"""

import jax.numpy as jnp

from vae_jax.spec import BadOption


def biases(decoder, encoder):
    """What a tied decoder has of its own: of its variables, as `MLP.init` gives them, those that are no kernels.

    Raises `ValueError` where a kernel does not have the shape of the transposed one.
    """
    theirs, own = ([kernel.shape for kernel in _kernels(variables)] for variables in (encoder, decoder))
    if own != [shape[::-1] for shape in reversed(theirs)]:
        raise BadOption(
            f"tied: the decoder's kernels {own} do not have the shapes of the transposed encoder's "
            f"{theirs}, last first; want hidden widths in reverse order, one output each, neither gates nor classes"
        )
    return _map(lambda layer, _: {"bias": layer["bias"]}, decoder, theirs)


def transposed(decoder, encoder):
    """The variables of a decoder from its `biases` and the encoder's variables."""
    kernels = [jnp.transpose(kernel) for kernel in reversed(_kernels(encoder))]
    return _map(lambda layer, kernel: {**layer, "kernel": kernel}, decoder, kernels)


def _kernels(variables):
    """Of an `MLP`, in the order of its layers."""
    layers = variables["params"]
    dense = [layers[f"Dense_{n}"]["kernel"] for n in range(len(layers) - 1)]
    return [*dense, layers["DenseHead_0"]["Dense_0"]["kernel"]]


def _map(function, variables, values):
    """An `MLP`'s variables with `function(layer, value)` for every layer, in order."""
    layers, (*values, last) = variables["params"], values
    dense = {f"Dense_{n}": function(layers[f"Dense_{n}"], value) for n, value in enumerate(values)}
    return {"params": {**dense, "DenseHead_0": {"Dense_0": function(layers["DenseHead_0"]["Dense_0"], last)}}}
