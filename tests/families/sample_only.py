"""A family of the kind of a GAN: two players in one loss, draws, and no likelihood of any kind."""

import toy_models


def from_config(*, event, penalty):
    """Return the toy; its players are the parts "generator" and "critic" of the parameters."""
    return toy_models.gan(penalty)
