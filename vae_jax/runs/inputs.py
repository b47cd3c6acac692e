"""The input of a trained model: examples and contexts on the scale of the stored data, as a batch that it takes."""

import numpy as np

from vae_jax.data import pipeline, scale, text, transforms
from vae_jax.data.values import Split
from vae_jax.spec import nearest
from vae_jax.support import END, LIFT

MADE_OF_X = {  # kinds of contexts that may be, and what they are
    "prefix": "the beginning of the sequence",
    "image": "the image reduced to this size",
    "degraded": "the degraded image",
}


def batch(experiment, x, context, *, expected=False):
    """Return the batch that the model sees, its size, and True if x is one example.

    Args:
      experiment: the experiment of the run.
      x: examples on the scale of the stored data, or one.
      context: for a conditional model.
      expected: True for the mean of what the transform draws, as an encoder sees it; otherwise the fixed draw, in which
        log p(x) is measured (`pipeline.fixed_split`).
    """
    x, single = examples(experiment, x)
    split = Split(x)
    if experiment.context is not None:
        split = _with_context(experiment, split, context, single)
    elif context is not None:
        raise ValueError("this model takes no context, and one was given; leave it out")
    dataset = experiment.dataset._replace(test=split)
    options = {"transform": experiment.transform, "conditioning": experiment.conditioning, "expected": expected}
    return pipeline.fixed_split(dataset, "test", **options), len(x), single


def examples(experiment, x):
    """Return x as stored examples [N, ...], and True if it is one. Raises `ValueError` for other shapes."""
    dataset = experiment.dataset
    shape = dataset.train.x.shape[1:]
    if dataset.vocabulary is not None and _is_text(x):
        single = isinstance(x, str)
        return text.rows([x] if single else list(x), dataset.vocabulary, shape[0]), single
    if dataset.columns is not None:
        return _rows(dataset.columns, x)
    x = np.asarray(x)
    if x.dtype == object or x.dtype.kind not in "biuf":
        raise ValueError(f"x must hold numbers, got an array of {x.dtype}")
    if x.dtype.kind == "f" and not np.isfinite(x).all() and not experiment.event.missing:
        raise ValueError("x holds NaN or infinity; this model takes finite numbers")
    if x.dtype == bool:
        x = x.astype(np.uint8)
    for wanted in (shape, shape[:-1] if shape[-1:] == (1,) and len(shape) == 3 else shape):
        if x.shape == wanted or x.shape[1:] == wanted:
            single = x.shape == wanted
            x = x.reshape((1, *shape) if single else (len(x), *shape))
            if not len(x):
                raise ValueError("x holds no example")
            return _on_scale(experiment, x), single
    raise ValueError(f"an example of {dataset.name} has the shape {shape}; give one or [N, ...], got {x.shape}")


def mask_of(mask, shape, single):
    """Return a mask of a batch, True for observed entries. Raises `ValueError` for another shape or type."""
    mask = np.asarray(mask)
    mask = mask[None] if single else mask
    if mask.dtype != bool or mask.shape[: len(shape)] != shape[: mask.ndim] or mask.size != np.prod(shape):
        raise ValueError(f"mask must hold True and False, {list(shape)}; got {mask.dtype} {list(mask.shape)}")
    return mask.reshape(shape)


def _on_scale(experiment, x):
    """Return x in the stored type. Raises `ValueError` for fractions or a range that the integers do not have."""
    dataset, stored, top = experiment.dataset, experiment.dataset.train.x.dtype, experiment.dataset.max_value
    if stored.kind not in "ui":
        return x
    low = 0
    if experiment.transform in (transforms.counts, transforms.real):  # as large as a number of this type can be
        stored = np.promote_types(stored, np.int32)
        low, top = 0 if experiment.transform is transforms.counts else np.iinfo(stored).min, np.iinfo(stored).max
    if x.dtype.kind == "f" and not np.all(x == np.round(x)):
        raise ValueError(
            f"x holds fractions, and {dataset.name} has integers {low}..{top}; scale x to that range and round"
        )
    values = x
    if dataset.strokes:
        if not np.isin(x[..., 2], (0, LIFT, END)).all():
            raise ValueError("x: the pen column must hold 0 (draw), 1 (lift) and 2 (the last point)")
        values, low = x[..., :2], -top
    if not (values.min() >= low and values.max() <= top):
        reach = f"it reaches from {values.min()} to {values.max()}"
        raise ValueError(f"x must lie in {low}..{top}, the range of {dataset.name}; {reach}")
    return x.astype(stored)


def _with_context(experiment, split, context, single):
    name = experiment.config["data"]["context"]["name"]
    if name == "label":
        return split._replace(label=contexts(experiment, context, len(split.x)))
    if experiment.conditioning.stored(experiment.dataset.train) is None:  # made from x
        return split
    context = np.asarray(context)[None] if single and context is not None else context
    return split._replace(context=contexts(experiment, context, len(split.x)))


def contexts(experiment, context, size, *, in_turn=False):
    """Return `size` contexts as the model takes them, None for an unconditional model.

    Those that are made of x are given on the scale of the stored data.

    Args:
      experiment: the experiment of the run.
      context: one context for all or one for each; classes by number or by name.
      size: how many there must be.
      in_turn: True for the classes in turn if `context` is None.
    """
    spec = experiment.context
    if spec is None:
        if context is not None:
            raise ValueError("this model takes no context, and one was given; leave it out")
        return None
    if context is None and in_turn and spec.shape == ():
        return np.arange(size, dtype=np.int32) % spec.support.num_levels
    if context is None:
        kind = f"one of {spec.support.num_levels} classes" if spec.shape == () else f"an array {spec.shape}"
        raise ValueError(f"this model is conditional: give context=, {kind} for each example")
    context = np.asarray(context)
    if spec.shape == ():
        context = _classes(experiment.dataset, context, spec.support.num_levels)
    if context.shape == spec.shape:
        context = np.broadcast_to(context, (size, *spec.shape))
    if context.shape != (size, *spec.shape):
        raise ValueError(f"context must be one {spec.shape} or {(size, *spec.shape)} of them, got {context.shape}")
    return context_of_model(experiment, context)


def is_made_of_x(experiment) -> bool:
    """Return True if contexts are made of x, and so have its scale."""
    name = experiment.config["data"]["context"]["name"]
    return name in MADE_OF_X and experiment.conditioning.stored(experiment.dataset.train) is None


def context_of_model(experiment, context):
    """Return what the model takes for contexts on the scale of the stored data."""
    if not is_made_of_x(experiment):
        return context
    return scale.expected(experiment.transform, context, experiment.dataset.max_value)


def context_to_stored(experiment, context):
    """Return contexts as the model takes them on the scale of the stored data: `context_of_model` backwards."""
    if not is_made_of_x(experiment):
        return context
    return scale.mean_to_stored(experiment.transform, context, experiment.dataset.max_value)


def _classes(dataset, context, num_classes):
    """Return class numbers for numbers or names."""
    if context.dtype.kind in "US":
        names = list(dataset.class_names or ())
        if unknown := [name for name in context.ravel() if name not in names]:
            raise ValueError(f"context: unknown class {str(unknown[0])!r}{nearest(str(unknown[0]), names)}")
        context = np.array([names.index(name) for name in context.ravel()]).reshape(context.shape)
    if context.dtype.kind not in "iu" or np.any((context < 0) | (context >= num_classes)):
        raise ValueError(f"context must be classes 0..{num_classes - 1}, got {context.ravel()[:3].tolist()}")
    return context.astype(np.int32)


def _rows(columns, x):
    """Return rows of a table as the model stores them [N, D], and True if x is one row."""
    if hasattr(x, "keys"):
        single = all(np.ndim(x[name]) == 0 for name in x)
        return columns.to_model({name: [x[name]] if single else x[name] for name in x.keys()}), single
    rows = x.tolist() if hasattr(x, "tolist") else list(x)
    single = not (len(rows) and isinstance(rows[0], list | tuple))
    return columns.to_model([rows] if single else rows), single


def _is_text(x):
    return isinstance(x, str) or (isinstance(x, list | tuple) and all(isinstance(line, str) for line in x))
