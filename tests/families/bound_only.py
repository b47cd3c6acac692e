"""A family of the kind of a diffusion model: a bound on log p(x) and draws, but neither p(x) nor a code."""

import toy_models


def from_config(*, event, num_steps):
    """Return the toy with this number of diffusion steps."""
    return toy_models.bound_only(num_steps)
