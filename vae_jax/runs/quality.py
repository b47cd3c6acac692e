"""The quality of a trained model's samples: `evaluation.quality` on features of its draws and of test images.

There are two kinds of features. `pixels` are the first 64 principal components of the training images. `classes` are
the last hidden layer of a small convolutional classifier, which is trained here on the labels of the data set. It has
a fixed seed, and the cache keeps it, with its accuracy and a hash of its weights. Numbers of other classifiers, such
as those of a published FID, cannot be compared with these.

The images are those that the model sees: levels or bits, on the scale [0, 1]. In `stacked_mnist` the classifier sees
one channel, which is one digit, at a time; the classes of the draws then count the modes.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import networks
from vae_jax.core import Aux, Model, by_loss
from vae_jax.data import cache, transforms
from vae_jax.data.fingerprint import fingerprint
from vae_jax.evaluation import quality
from vae_jax.runs import compare, passes
from vae_jax.runs.scene import contexts, to_unit
from vae_jax.spec import BadOption
from vae_jax.training import gradient
from vae_jax.training.progress import said

MOST = 10_000  # test images, and as many draws
STACKED = "stacked_mnist"  # whose channels are images of digits
RECIPE = {"seed": 0, "steps": 2_000, "batch": 128, "rate": 1e-3, "channels": (16, 32), "features": 64, "version": 1}


def measure(experiment, params, *, num_test=0) -> dict:
    """Return the flat `quality/...` record of a trained model: `evaluation.quality.measure` for every kind of features.

    As many images are drawn as test images are seen, at most 10,000. A conditional model gets the contexts of the test
    images. The floor is as many training images.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      num_test: how many test images; 0 for all, up to 10,000.

    Raises `BadOption` for data that are not images, and for a model that draws no samples.
    """
    if len(experiment.event.shape) != 3:
        raise BadOption(f"--quality: it compares images [H, W, C], and the data have shape {experiment.event.shape}")
    if experiment.model.sample is None and experiment.model.latent is None:
        raise BadOption("--quality: this model draws no samples")
    experiment = experiment._replace(model=compare.able_to_draw(experiment, params))
    show, train, test = to_unit(experiment), experiment.split("train"), experiment.split("test")
    number = min(num_test or MOST, MOST, len(test["x"]), len(train["x"]))
    chosen = np.sort(np.random.default_rng(0).permutation(len(train["x"]))[:MOST])
    some = show(np.asarray(train["x"])[chosen])
    order = np.random.default_rng(1).permutation(len(some))[:number]
    with said(f"drawing {number:,} images"):
        context = test.get("context")
        context = contexts(experiment, number) if context is None else np.asarray(context[:number])
        draws = show(passes.draw(experiment.model, params, number, context, means=False)["x"])
    images = {"data": show(np.asarray(test["x"])[:number]), "draws": draws, "floor": some[order]}
    record = {"num_images": number}
    components = quality.principal_components(some)
    with said("comparing principal components"):
        record |= _named("pixels", quality.measure(**{name: components(x) for name, x in images.items()}))
    if experiment.dataset.train.label is not None and experiment.dataset.num_classes > 1:
        record |= _by_classes(experiment, images)
    return {f"quality/{name}": value for name, value in record.items()}


def table(record: dict) -> str:
    """Return the numbers of `measure` as lines for a person, each with its error and its floor."""
    r = {name.removeprefix("quality/"): value for name, value in record.items() if name.startswith("quality/")}
    lines = [f"quality   {r['num_images']:10d} draws against as many test images; floor: training against test images"]
    words = {"pixels": "principal components of the pixels", "classes": "features of a classifier"}
    for kind in (kind for kind in words if f"{kind}/frechet" in r):
        of = {name.removeprefix(f"{kind}/"): value for name, value in r.items() if name.startswith(f"{kind}/")}
        lines += [
            f"{kind:9s} {of['frechet']:10.3f} ± {of['frechet_se']:.3f} Fréchet distance on {words[kind]}; "
            f"floor {of['frechet_floor']:.3f}; {of['frechet_limit']:.3f} for infinitely many",
            f"          {of['kernel']:10.4f} ± {of['kernel_se']:.4f} kernel distance; floor {of['kernel_floor']:.4f}",
            f"          {of['precision']:10.3f} precision, recall {of['recall']:.3f}, density {of['density']:.3f}, "
            f"coverage {of['coverage']:.3f}",
        ]
    if "classifier/accuracy" in r:
        lines.append(
            f"          {r['classifier/accuracy']:10.3f} accuracy of that classifier on test images, weights "
            f"{r['classifier/hash']}"
        )
    if "modes" in r:
        lines.append(
            f"modes     {r['modes']:10d} of 1000, KL from uniform {r['modes_kl']:.3f} nats; test images "
            f"{r['modes_floor']} and {r['modes_kl_floor']:.3f}"
        )
    return "\n".join(lines)


class Classifier:
    """A small classifier of images [H, W, C] in [0, 1], trained once for a data set.

    Args:
      experiment: the experiment whose training images and labels it learns.
    """

    def __init__(self, experiment):
        self.stacked, self._compiled = experiment.dataset.name == STACKED, {}
        self.num_classes = 10 if self.stacked else experiment.dataset.num_classes
        *size, channels = experiment.event.shape
        self.shape = (*size, 1 if self.stacked else channels)
        halved = sum(all(n % 2**times == 0 for n in size) for times in (1, 2))
        self.network = networks.conv_encoder(((RECIPE["features"],),), channels=RECIPE["channels"][:halved])
        binary = experiment.transform is transforms.binarize
        identity = {"data": fingerprint(experiment.dataset), "binary": binary, "stacked": self.stacked, **RECIPE}
        arrays = cache.arrays(f"classifier-{experiment.dataset.name}", identity, lambda f: self._write(experiment, f))
        shapes = jax.eval_shape(self._init, jax.random.key(0))
        leaves, tree = jax.tree.flatten(shapes)
        self.params = jax.tree.unflatten(tree, [np.asarray(arrays[f"leaf{n:03d}"]) for n in range(len(leaves))])
        self.accuracy = float(arrays["accuracy"])
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.ascontiguousarray(leaf))
        self.hash = digest.hexdigest()[:12]

    def features(self, x):
        """Return the features of images [N, H, W, C] in [0, 1]: [N, F], or [N, 3 F] of three digits."""
        return self._by_channel(self._features, x).reshape(len(x), -1)

    def classes(self, x):
        """Return the most probable class of images [N, H, W, C] in [0, 1]: 100 a + 10 b + c of three digits."""
        label = self._by_channel(self._logits, x).argmax(axis=-1)
        return label @ np.array([100, 10, 1]) if self.stacked else label

    def _by_channel(self, function, x):
        """Return `function` of the images; of stacked ones, of each channel as an image of its own: [N, 3, ...]."""
        if not self.stacked:
            return self._run(function, self.params, x)
        each = self._run(function, self.params, np.concatenate([x[..., c : c + 1] for c in range(3)]))
        return np.moveaxis(each.reshape(3, len(x), -1), 0, 1)

    def _run(self, function, params, x):
        """Return `function(params, x_n)` of every image, 500 at a time."""
        if function not in self._compiled:
            one = lambda params, x: jax.lax.map(lambda x: function(params, x), x, batch_size=500)  # noqa: E731
            self._compiled[function] = jax.jit(one)
        return np.asarray(self._compiled[function](params, x))

    def _init(self, key):
        head = jnp.zeros((RECIPE["features"], self.num_classes)), jnp.zeros(self.num_classes)
        return {"network": self.network.init(key, jnp.zeros(self.shape), None), "head": head}

    def _features(self, params, x):
        return self.network.apply(params["network"], x, None)[0]

    def _logits(self, params, x):
        kernel, bias = params["head"]
        return jax.nn.relu(self._features(params, x)) @ kernel + bias

    def _write(self, experiment, folder):
        """Train the classifier; write its weights and its accuracy on test images into `folder`."""
        x, label = self._examples(experiment, "train")
        with said(f"training a classifier on {len(x):,} images for its features"):
            params = jax.device_get(self._trained(x, label))
        x, label = self._examples(experiment, "test")
        accuracy = np.mean(self._run(self._logits, params, x).argmax(axis=-1) == label)
        for n, leaf in enumerate(jax.tree.leaves(params)):
            np.save(folder / f"leaf{n:03d}.npy", leaf)
        np.save(folder / "accuracy.npy", np.float64(accuracy))

    def _examples(self, experiment, split):
        x = to_unit(experiment)(np.asarray(experiment.split(split)["x"]))
        label = np.asarray(getattr(experiment.dataset, split).label)[: len(x)]
        if not self.stacked:
            return x, label
        digits = [label // 100, label // 10 % 10, label % 10]
        return np.concatenate([x[..., c : c + 1] for c in range(3)]), np.concatenate(digits)

    def _trained(self, x, label):
        """Return the parameters after the steps of `RECIPE` on images [N, ...] and their labels [N]."""

        def loss(params, key, batch, step):
            logits = jax.vmap(lambda x: self._logits(params, x))(batch["x"])
            log_p = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(log_p, batch["label"][:, None], axis=1)[:, 0], Aux({})

        decay = {"name": "cosine_decay_schedule", "init_value": 1.0, "decay_steps": RECIPE["steps"]}
        adam = gradient.optimizer(name="adam", learning_rate=RECIPE["rate"], schedule=decay)
        learner = gradient.gradient(Model(lambda key, batch: self._init(key), loss, by_loss(loss)), adam)

        @jax.jit
        def run(key, x, label):
            def step(state, key):
                chosen = jax.random.randint(key, (RECIPE["batch"],), 0, len(x))
                return learner.step(state, {"x": x[chosen], "label": label[chosen]})[0], None

            state = learner.init(key, {"x": x[:2], "label": label[:2]})
            keys = jax.random.split(jax.random.fold_in(key, 1), RECIPE["steps"])
            return learner.params(jax.lax.scan(step, state, keys)[0])

        return run(jax.random.key(RECIPE["seed"]), x, label.astype(np.int32))


def _by_classes(experiment, images) -> dict:
    """Return the numbers of the features of a classifier; of stacked digits also the modes."""
    classifier = Classifier(experiment)
    with said("comparing features of the classifier"):
        record = _named("classes", quality.measure(**{name: classifier.features(x) for name, x in images.items()}))
    record |= {"classifier/accuracy": classifier.accuracy, "classifier/hash": classifier.hash}
    if classifier.stacked:
        record["modes"], record["modes_kl"] = quality.modes(classifier.classes(images["draws"]), 1000)
        record["modes_floor"], record["modes_kl_floor"] = quality.modes(classifier.classes(images["data"]), 1000)
    return record


def _named(kind, numbers) -> dict:
    return {f"{kind}/{name}": value for name, value in numbers.items()}
