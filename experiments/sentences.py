"""What a model of text writes: draws, and where it has codes, sentences decoded from them and from between them."""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation import latents
from vae_jax.tasks import decode, interpolate

DRAWS, BEAM_WIDTH = 100, 5
EXAMPLES, NEIGHBOURS, STEPS = 20, 5, 7
TEMPERATURE = 0.5  # of what is drawn along a line: at 1 it is a model's own, but an unlikely word spoils a sentence


def write(experiment, params, directory, key):
    """Every page that the model allows, as NAME.txt in `directory`."""
    key_draws, key_codes = jax.random.split(key)
    pages = {"samples": draws(experiment, params, key_draws)}
    if experiment.model.latent:
        pages |= of_codes(experiment, params, key_codes)
    for name, lines in pages.items():
        (directory / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def draws(experiment, params, key) -> list[str]:
    """Draws from the model: of one with codes, x ~ p(x|z), z ~ p(z)."""
    drawn = jax.jit(jax.vmap(experiment.model.sample, (None, 0)))(params, jax.random.split(key, DRAWS))
    return [experiment.dataset.vocabulary.decode(row) for row in np.asarray(drawn)]


def of_codes(experiment, params, key) -> dict[str, list[str]]:
    """Pages of test sentences: what the mean of q(z|x) decodes to, greedily and by beam search (`reconstructions`);
    greedily, draws of q(z|x) (`neighbours`) and the line from the mean to that of the next one (`interpolations`). The
    line is drawn as well, with one noise for all of it: what changes is by the code alone (`interpolations_drawn`).
    """
    model, batch = experiment.model, {"x": experiment.split("test")["x"][:EXAMPLES]}
    q, means = latents.posteriors(model, params, batch), latents.posterior_means(model, params, batch)
    of_code = lambda z: model.latent.likelihood(params, z)  # noqa: E731
    greedy = jax.jit(jax.vmap(lambda z: decode.greedy(of_code(z))))
    beam = jax.jit(jax.vmap(lambda z: decode.beam(of_code(z), width=BEAM_WIDTH).x[0]))
    draw = jax.jit(jax.vmap(lambda q, key: q.sample(key), (latents.axes(q), 0)))

    key_near, key_lines = jax.random.split(key)
    near = [greedy(draw(q, own)) for own in jax.random.split(key_near, (NEIGHBOURS, len(means)))]
    drawn = jax.jit(jax.vmap(lambda z, key: decode.sampled(of_code(z), key, temperature=TEMPERATURE)))
    lines = jax.vmap(interpolate.linear, (0, 0, None))(means, jnp.roll(means, -1, axis=0), jnp.linspace(0, 1, STEPS))
    between = [greedy(lines[:, step]) for step in range(STEPS)]
    noise = jax.random.split(key_lines, len(means))
    by_noise = [drawn(lines[:, step], noise) for step in range(STEPS)]
    pages = {
        "reconstructions": [("", batch["x"]), ("greedy  ", greedy(means)), ("beam    ", beam(means))],
        "neighbours": [("", batch["x"]), *(("    ", rows) for rows in near)],
    }
    for name, rows_between in (("interpolations", between), ("interpolations_drawn", by_noise)):
        ends = ("", batch["x"]), ("", np.roll(batch["x"], -1, axis=0))
        pages[name] = [ends[0], *(("    ", rows) for rows in rows_between), ends[1]]
    return {name: _blocks(experiment.dataset.vocabulary, parts) for name, parts in pages.items()}


def _blocks(vocabulary, parts) -> list[str]:
    """A block for each sentence, an empty line behind it: of every (prefix, rows) the line of its own row."""
    columns = [[prefix + vocabulary.decode(row) for row in np.asarray(rows)] for prefix, rows in parts]
    return [line for block in zip(*columns, strict=True) for line in (*block, "")]
