"""Tied weights: a dense decoder whose kernels are the transposes of the encoder's, last layer first.

W_decoder[l] = W_encoder[L + 1 - l]ᵀ (Vincent et al. 2010, sec. 2.1): half the parameters, and a kernel learns from both
uses.
"""

import jax.numpy as jnp

from vae_jax.spec import BadOption


def biases(decoder, encoder):
    """Return the parameters of a tied decoder: the variables of an `MLP` without their kernels.

    Raises `BadOption` if a kernel does not have the shape of the transposed one.
    """
    of_encoder, of_decoder = ([kernel.shape for kernel in _kernels(variables)] for variables in (encoder, decoder))
    if of_decoder != [shape[::-1] for shape in reversed(of_encoder)]:
        raise BadOption(
            f"tied: the decoder's kernels {of_decoder} do not have the shapes of the transposed encoder's "
            f"{of_encoder}, last first; give hidden widths in reverse order, and use heads of one output, no gates and "
            "no context"
        )
    return _map(lambda layer, _: {"bias": layer["bias"]}, decoder, of_encoder)


def transposed(decoder, encoder):
    """Return the variables of a decoder from its `biases` and the encoder's variables."""
    kernels = [jnp.transpose(kernel) for kernel in reversed(_kernels(encoder))]
    return _map(lambda layer, kernel: {**layer, "kernel": kernel}, decoder, kernels)


def _kernels(variables):
    """Return the kernels of an `MLP`, in the order of its layers."""
    layers = variables["params"]
    dense = [layers[f"Dense_{n}"]["kernel"] for n in range(len(layers) - 1)]
    return [*dense, layers["DenseHead_0"]["Dense_0"]["kernel"]]


def _map(function, variables, values):
    """Return the variables of an `MLP` with `function(layer, value)` in place of every layer."""
    layers, (*values, last) = variables["params"], values
    dense = {f"Dense_{n}": function(layers[f"Dense_{n}"], value) for n, value in enumerate(values)}
    return {"params": {**dense, "DenseHead_0": {"Dense_0": function(layers["DenseHead_0"]["Dense_0"], last)}}}
