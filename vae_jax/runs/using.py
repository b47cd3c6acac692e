"""A trained run at work: codes of files, and draws, written to files."""

import csv
import functools
import io
from pathlib import Path

import jax
import numpy as np

from vae_jax.data import recordings
from vae_jax.distributions import Drawing, Normal
from vae_jax.evaluation import latents
from vae_jax.files import write_bytes, write_text
from vae_jax.runs import build, inputs, own_data, pieces, scene, sounds, workdir
from vae_jax.spec import integers
from vae_jax.tasks import decode

SHOWN = 100  # draws in the picture


def encode_files(folder, out, *, name=None, path=None, files=None, split="test", checkpoint=None) -> str:
    """Write q(z|x) of every example: `mean`, `scale` if q is a diagonal Gaussian, `label`, `class` and `row`.

    A hierarchy has `mean_z1`, `mean_z2` ... . The table of a CSV has a column for each dimension.

    Args:
      folder: the workdir of the run.
      out: the file to write, .npz or .csv.
      name: a data set of one's own (`own_data.on`); None for that of the run.
      path: where its files are.
      files: the options of its reader.
      split: "train", "valid", "test" or "all".
      checkpoint: a step, "best", or None for the last.

    Returns a line about the file. Raises `ValueError` for a model without codes and for data that do not fit.
    """
    out = workdir.output_file(out, ".npz", ".csv", run=folder, inputs=(path,))
    experiment = build.build_trained(folder, with_data=name is None)
    if experiment.model.latent is None:
        raise ValueError(f"{folder}: {experiment.config['family']!r} has no codes; take a run of a model that has")
    dataset = experiment.dataset if name is None else own_data.read(experiment, name, path, files)
    other = experiment._replace(dataset=own_data.with_test(experiment, dataset, split))
    params = build.restore(folder, experiment, step=checkpoint).params
    where = (experiment.config["data"]["name"], experiment.config["data"]["path"]) if name is None else (name, path)
    columns = (
        {"row": np.asarray(own_data.row_names(dataset, split, *where))}
        | _classes(other.dataset)
        | _codes(other, params)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, _npz(columns) if out.suffix == ".npz" else _csv(columns).encode())
    return f"{len(columns['row'])} codes of {other.dataset.name} in {out}: {', '.join(columns)}"


def sample_files(folder, out=None, *, num=100, seed=0, context=None, temperature=1.0, checkpoint=None) -> str:
    """Draw from a run: samples.npz, and samples.png (images), .txt (text), .csv (a table) or .wav files (sound).

    The draws in samples.npz, `x` and `context`, are on the scale of the data; those of a table are its columns.

    Args:
      folder: the workdir of the run.
      out: the folder to write; None for `folder`/samples.
      num: how many draws.
      seed: of the draws.
      context: classes by number or name, comma-separated, or a .npy file of contexts, taken in turn; None for all
        classes in turn, or the contexts of the test split.
      temperature: of text and drawings: below 1 likelier words and moves, above 1 more variety (`decode.sampled`).
      checkpoint: a step, "best", or None for the last.

    Returns a line about the files. Raises `ValueError` for a model that cannot draw, and for a context that it does not
    have.
    """
    integers(num=num)
    integers(seed=seed, at_least=0)
    out = workdir.output_folder(out or Path(folder) / "samples")
    experiment = build.build_trained(folder, with_data=False)
    if context is None and experiment.context is not None and experiment.context.shape:
        experiment = build.build_trained(folder)  # for the contexts of the test split
    draw, contexts = _drawer(experiment, temperature), contexts_of(experiment, context, num)
    params = build.restore(folder, experiment, step=checkpoint).params
    keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), num)))
    x = pieces.apply(draw, experiment, params, keys, contexts)
    out.mkdir(parents=True, exist_ok=True)
    drawn = experiment.to_stored(x, drawn=True)
    arrays = dict(drawn) if isinstance(drawn, dict) else {"x": np.asarray(drawn)}
    arrays |= {} if contexts is None else {"context": inputs.context_to_stored(experiment, contexts)}
    write_bytes(out / "samples.npz", _npz(arrays))
    return f"{num} draws in {out}: samples.npz{_shown(experiment, x, drawn, out)}"


def contexts_of(experiment, text, number):
    """Return the contexts of `number` draws, an array [number, ...] or None, from the text of a flag.

    Raises `ValueError` for a class or an array that the model does not take.
    """
    context, dataset = experiment.context, experiment.dataset
    if context is None:
        if text is not None:
            raise ValueError("--context: this model is conditional on nothing; leave it out")
        return None
    if context.shape == ():
        names = dataset.class_names or ()
        known = context.support.num_levels
        words = range(known) if text is None else [word.strip() for word in text.split(",")]
        given = [names.index(word) if word in names else word for word in words]
        if wrong := [word for word in given if not str(word).isdecimal() or int(word) >= known]:
            also = f" or {', '.join(names)}" if names else ""
            raise ValueError(f"--context: there is no class {wrong[0]!r}; the classes are 0 .. {known - 1}{also}")
        values = np.asarray([int(word) for word in given], np.int32)
    elif text is None:
        values = experiment.split("test")["context"]
    else:
        try:
            values = np.load(Path(text).expanduser(), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"--context={text}: give a .npy file of contexts {context.shape} ({error})") from error
        if values.ndim == len(context.shape):
            values = values[None]
        if values.shape[1:] != context.shape:
            raise ValueError(f"--context={text}: contexts are {context.shape}, and the file has {values.shape}")
        values = inputs.context_of_model(experiment, values)
        values = values.astype(experiment.split("test")["context"].dtype)
    return np.asarray(values)[np.arange(number) % len(values)]


def _drawer(experiment, temperature):
    """Return (model, params, key data, context) -> x, one draw."""
    model = experiment.model
    if model.sample is None:
        raise ValueError(
            f"{experiment.config['family']!r} has no p(z) to draw from; a density of its codes stands for one: "
            "vae-jax codes --draw=10"
        )
    if temperature == 1.0:
        return pieces.draw
    dataset = experiment.dataset
    if not (dataset.vocabulary or dataset.strokes) or not (model.density or model.latent):
        raise ValueError(f"--temperature={temperature:g}: only models of text and of drawings have one; leave it out")
    if not temperature > 0:
        raise ValueError(f"--temperature={temperature:g}: give a number above 0")
    return functools.partial(_draw_at, temperature=temperature)


def _draw_at(model, params, key, context, *, temperature):
    """Draw a sentence or a drawing with a temperature."""
    key_z, key_x = jax.random.split(jax.random.wrap_key_data(key))
    if model.density:
        p = model.density(params, context)
    else:
        p = model.latent.likelihood(params, model.latent.prior(params, context).sample(key_z), context)
    draw = p.sample if isinstance(p, Drawing) else functools.partial(decode.sampled, p)
    return draw(key_x, temperature=temperature)


def _shown(experiment, x, drawn, out) -> str:
    """Write the draws for a person, and return ", " and the names of the files; "" for what no picture shows.

    Args:
      experiment: the experiment of the run.
      x: the draws on the scale of the model.
      drawn: the draws on the scale of the data (`Experiment.to_stored`).
      out: the folder.
    """
    dataset = experiment.dataset
    if dataset.vocabulary:
        write_text(out / "samples.txt", "".join(f"{line}\n" for line in drawn))
        return ", samples.txt"
    if dataset.encoding:
        for number, levels in enumerate(sounds.to_levels(experiment, x)):
            file = io.BytesIO()
            recordings.write_wav(file, dataset.encoding.decode(levels), dataset.encoding.sample_rate)
            write_bytes(out / f"sample_{number}.wav", file.getvalue())
        return f", sample_0.wav ... sample_{len(x) - 1}.wav"
    if dataset.columns:
        write_text(out / "samples.csv", _csv(drawn))
        return ", samples.csv"
    if dataset.strokes:
        from vae_jax.plotting import drawings  # matplotlib: not before it is needed

        for number, points in enumerate(x):
            write_text(out / f"sample_{number}.svg", drawings.to_svg(points))
        return f", sample_0.svg ... sample_{len(x) - 1}.svg"
    if x.ndim != 4:
        return ""
    from vae_jax import plotting  # matplotlib: not before it is needed
    from vae_jax.plotting import images

    plotting.save(images.grid(scene.to_unit(experiment)(x[:SHOWN])), out / "samples.png")
    return ", samples.png"


def _codes(experiment, params) -> dict:
    """Return {"mean": [N, D]} of the test split, and {"scale": [N, D]} if q(z|x) is a diagonal Gaussian."""
    data = experiment.split("test", expected=True)
    means = latents.posterior_means(experiment.model, params, data)
    if isinstance(means, tuple):
        return {f"mean_z{level}": np.asarray(mean) for level, mean in enumerate(means, 1)}
    codes = {"mean": np.asarray(means)}
    q = latents.posteriors(experiment.model, params, data)
    return codes | ({"scale": np.exp(np.asarray(q.log_scale))} if isinstance(q, Normal) else {})


def _classes(dataset) -> dict:
    """Return {"label": numbers, "class": names} of the test split, as far as the data have them."""
    label, names = dataset.test.label, dataset.class_names
    if label is None:
        return {}
    return {"label": np.asarray(label)} | ({"class": np.asarray(names)[label]} if names else {})


def _npz(arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _csv(columns) -> str:
    """Return columns as CSV, names first; an array [N, ...] has a column for each of its elements."""
    columns = {name: np.asarray(values) for name, values in columns.items()}
    table = {name: values for name, values in columns.items() if values.ndim == 1}
    for name, values in columns.items():
        if values.ndim > 1:
            flat = values.reshape(len(values), -1)
            table |= {f"{name}_{place}": flat[:, place] for place in range(flat.shape[1])}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*(values.tolist() for values in table.values()), strict=True))
    return text.getvalue()
