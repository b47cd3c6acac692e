"""Pages of text by a model: draws and, if it has codes, sentences decoded from them and from the lines between them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation import latents
from vae_jax.files import write_text
from vae_jax.runs.scene import contexts
from vae_jax.tasks import decode, interpolate

DRAWS, BEAM_WIDTH = 100, 5
EXAMPLES, NEIGHBOURS, STEPS = 20, 5, 7
TEMPERATURE = 0.5  # of the draws along a line: with 1, the model's own, one unlikely word spoils a sentence


def pages(experiment, params, key, directory) -> dict:
    """Return {name: function that writes NAME.txt into `directory`}, every page that the model allows.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      key: of the samples.
      directory: the folder of the pages.
    """
    key_draws, key_codes = jax.random.split(key)
    makers = {"samples": functools.partial(draws, experiment, params, key_draws)}
    if experiment.model.latent:
        makers |= of_codes(experiment, params, key_codes)
    return {name: functools.partial(_write, make, directory / f"{name}.txt") for name, make in makers.items()}


def _write(make, path):
    text = "".join(f"{line}\n" for line in make())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def draws(experiment, params, key) -> list[str]:
    """Return draws from the model; with codes, x ~ p(x|z), z ~ p(z)."""
    given = (jax.random.split(key, DRAWS), contexts(experiment, DRAWS))
    drawn = jax.jit(jax.vmap(experiment.model.sample, (None, 0, 0)))(params, *given)
    return [experiment.dataset.vocabulary.decode(row) for row in np.asarray(drawn)]


def of_codes(experiment, params, key) -> dict:
    """Return {page of test sentences: function that returns its lines}.

    reconstructions: the mean of q(z|x), decoded greedily and by beam search.
    neighbours: draws of q(z|x), decoded greedily.
    interpolations: the line from the mean to that of the next sentence, decoded greedily.
    interpolations_drawn: the same line, drawn with one noise for all points, so that only the code changes.

    A function raises `ValueError` for a line if there is only one sentence.
    """
    model, batch = experiment.model, {"x": experiment.split("test")["x"][:EXAMPLES]}
    of_code = lambda z: model.latent.likelihood(params, z)  # noqa: E731
    greedy = jax.jit(jax.vmap(lambda z: decode.greedy(of_code(z))))
    blocks = functools.partial(_blocks, experiment.dataset.vocabulary)
    means = functools.cache(lambda: latents.posterior_means(model, params, batch))
    key_near, key_lines = jax.random.split(key)

    def reconstructions():
        beam = jax.jit(jax.vmap(lambda z: decode.beam(of_code(z), width=BEAM_WIDTH).x[0]))
        return blocks([("", batch["x"]), ("greedy  ", greedy(means())), ("beam    ", beam(means()))])

    def neighbours():
        q = latents.posteriors(model, params, batch)
        draw = jax.jit(jax.vmap(lambda q, key: q.sample(key), (latents.axes(q), 0)))
        near = [greedy(draw(q, keys)) for keys in jax.random.split(key_near, (NEIGHBOURS, len(batch["x"])))]
        return blocks([("", batch["x"]), *(("    ", rows) for rows in near)])

    def between(decode_codes):
        if len(batch["x"]) < 2:
            raise ValueError("a path needs two test sentences, and there is only one")
        ends = jnp.roll(means(), -1, axis=0)
        lines = jax.vmap(interpolate.linear, (0, 0, None))(means(), ends, jnp.linspace(0, 1, STEPS))
        rows = [("    ", decode_codes(lines[:, step])) for step in range(STEPS)]
        return blocks([("", batch["x"]), *rows, ("", np.roll(batch["x"], -1, axis=0))])

    def interpolations_drawn():
        drawn = jax.jit(jax.vmap(lambda z, key: decode.sampled(of_code(z), key, temperature=TEMPERATURE)))
        noise = jax.random.split(key_lines, len(batch["x"]))
        return between(lambda codes: drawn(codes, noise))

    return {
        "reconstructions": reconstructions,
        "neighbours": neighbours,
        "interpolations": lambda: between(greedy),
        "interpolations_drawn": interpolations_drawn,
    }


def _blocks(vocabulary, parts) -> list[str]:
    """Return a block of lines for each sentence, one line from every (prefix, rows), and an empty line after it."""
    columns = [[prefix + vocabulary.decode(row) for row in np.asarray(rows)] for prefix, rows in parts]
    return [line for block in zip(*columns, strict=True) for line in (*block, "")]
