"""A family of the kind of a VQ-VAE: a codebook that follows the data by exponential averages, as `Aux.state`."""

import toy_models


def from_config(*, event, num_codes, decay):
    """Return the toy with `num_codes` entries, averaged at the rate `decay`."""
    return toy_models.codebook(num_codes, decay)
