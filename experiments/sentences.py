"""What a model of text writes: draws, and where it has codes, sentences decoded from them and from between them."""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.tasks import decode, interpolate

DRAWS, BEAM_WIDTH = 100, 5
EXAMPLES, NEIGHBOURS = 20, 5
PAIRS, STEPS = 6, 7


def write(experiment, params, directory, key):
    """Every page that the model allows, as NAME.txt in `directory`."""
    key_draws, key_codes = jax.random.split(key)
    pages = {"samples": samples(experiment, params, key_draws)}
    if experiment.model.latent:
        pages["reconstructions"] = reconstructions(experiment, params)
        pages["neighbours"] = neighbours(experiment, params, key_codes)
        pages["interpolations"] = interpolations(experiment, params)
    for name, lines in pages.items():
        (directory / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def samples(experiment, params, key) -> list[str]:
    """Draws from the model: of one with codes, x ~ p(x|z), z ~ p(z)."""
    drawn = jax.jit(jax.vmap(experiment.model.sample, (None, 0)))(params, jax.random.split(key, DRAWS))
    return _strings(experiment, drawn)


def reconstructions(experiment, params) -> list[str]:
    """Test sentences, each with what the mean of q(z|x) decodes to, greedily and by beam search."""
    latent, x = experiment.model.latent, _test(experiment, EXAMPLES)

    def decoded(x):
        p = latent.likelihood(params, latent.posterior(params, x).mean())
        return decode.greedy(p), decode.beam(p, width=BEAM_WIDTH).x[0]

    rows = zip(*(_strings(experiment, rows) for rows in (x, *jax.jit(jax.vmap(decoded))(x))), strict=True)
    return [line for row in rows for line in (*map("{:10}{}".format, ("test", "greedy", "beam"), row), "")]


def neighbours(experiment, params, key) -> list[str]:
    """Test sentences, each with what draws of q(z|x) decode to, greedily."""
    latent, x = experiment.model.latent, _test(experiment, EXAMPLES)

    def decoded(key, x):
        q = latent.posterior(params, x)
        around = lambda key: decode.greedy(latent.likelihood(params, q.sample(key)))  # noqa: E731
        return jax.vmap(around)(jax.random.split(key, NEIGHBOURS))

    rows = jax.jit(jax.vmap(decoded))(jax.random.split(key, len(x)), x)
    pairs = zip(_strings(experiment, x), rows, strict=True)
    return [line for own, near in pairs for line in (own, *(f"    {s}" for s in _strings(experiment, near)), "")]


def interpolations(experiment, params) -> list[str]:
    """What the line between the mean codes of two test sentences decodes to, greedily; the sentences at the ends."""
    latent, x = experiment.model.latent, _test(experiment, 2 * PAIRS)

    def decoded(a, b):
        z_a, z_b = (latent.posterior(params, x).mean() for x in (a, b))
        path = interpolate.linear(z_a, z_b, jnp.linspace(0.0, 1.0, STEPS))
        return jax.vmap(lambda z: decode.greedy(latent.likelihood(params, z)))(path)

    a, b = x[: len(x) // 2], x[len(x) // 2 :]
    paths = jax.jit(jax.vmap(decoded))(a, b)
    ends = zip(_strings(experiment, a), paths, _strings(experiment, b), strict=True)
    return [line for a, path, b in ends for line in (a, *(f"    {s}" for s in _strings(experiment, path)), b, "")]


def _test(experiment, number):
    """So many test sentences, an even number where there are fewer."""
    x = experiment.split("test")["x"]
    return x[: min(number, len(x) // 2 * 2)]


def _strings(experiment, rows) -> list[str]:
    return [experiment.dataset.vocabulary.decode(row) for row in np.asarray(rows)]
