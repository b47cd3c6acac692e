"""VAE on scikit-learn's digits, 8x8, dynamically binarised: the first thing to run, no download.

arXiv:1312.6114.  vae-jax train --config=vae_digits

Result (seed 0, two CPU cores): test IW-5000 log p(x) -23.03 ± 0.21 nats, ELBO -23.42; 10,000 steps in 2 s.
"""

from ml_collections import ConfigDict, config_dict

from vae_jax.errors import nearest


def get_config(arg: str = "") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.family = "vae"
    config.model = ConfigDict(
        {
            "latent_dim": 8,
            "encoder": {"name": "mlp", "hidden": (128,), "activation": "relu"},
            "decoder": {"name": "mlp", "hidden": (128,), "activation": "relu"},
            "prior": {"name": "standard"},
            "posterior": {"name": "normal"},
            "likelihood": {"name": "bernoulli"},
            "objective": {"name": "elbo", "num_samples": 1, "beta": 1.0},
            "compute_dtype": "float32",  # of the networks, or "bfloat16"; parameters and densities are float32
        }
    )
    config.data = ConfigDict(
        {
            "name": "digits",
            "path": "",  # a file or a folder of files; empty: where the set is usually found
            "files": Options(),  # options of images, arrays, table, huggingface, strokes: see vae_jax/data/README.md
            "max_value": 0,  # the largest value that a stored pixel can have; 0: ask the data set
            "transform": "binarize",  # a function of vae_jax.data.transforms
            "context": {"name": "none"},  # what the model is conditional on: a function of vae_jax.data.contexts
            "leave_out": (),  # classes that training, validation and test never show
            "batch_size": 64,
            "memory_limit": 2 * 2**30,  # bytes of images kept on the device; larger sets are streamed
            "num_workers": 0,  # processes that read a streamed set; 0: threads of this one
        }
    )
    config.optimizer = ConfigDict(
        {
            "name": "adam",
            "learning_rate": 1e-3,
            "schedule": {"name": "cosine_decay_schedule", "init_value": 1.0, "decay_steps": 10_000, "alpha": 0.05},
            "clip_norm": 0.0,
            "skip_above": 0.0,  # skip a step whose gradient norm is so many times the usual one, such as 10; 0: never
            "average_decay": 0.999,  # of the parameters' running average; 0 for none
        }
    )
    config.learner = ConfigDict(
        {
            "name": "gradient",  # a function of vae_jax.training.learners: gradient, alternating, aggressive
            "only": (),  # parts of the parameters that learn, such as "prior"; (): all
        }
    )
    config.start_from = ""  # a workdir: training begins with its parameters, except the parts in `learner.only`
    config.mesh = ConfigDict(
        {
            "data": -1,  # devices over which a batch is cut; -1: as many as possible
            "model": 1,  # devices over which large parameters and their optimiser state are cut
        }
    )
    config.train = ConfigDict(
        {
            "num_steps": 10_000,
            "log_every": 250,
            "eval_every": 500,
            "checkpoint_every": 2_500,
            "keep": 2,  # how many of the last checkpoints are kept, beside the best
            "patience": 0,  # validations without a better bound before stopping; 0: run to the end, keep the last
            "max_skipped": 20,  # non-finite steps in a row before the run is given up
            "preview_every": 2_500,  # steps between two pictures of samples and reconstructions in previews/; 0: none
            "writers": (),  # beside metrics.jsonl: tensorboard, wandb, mlflow
        }
    )
    config.eval = ConfigDict(
        {
            "num_samples": 5_000,  # K of the importance-weighted bound
            "num_test": 0,  # test examples; 0: all
        }
    )
    return smoke(config) if is_smoke(arg) else config


class Options(ConfigDict):
    """Options that only their reader knows: a flag such as --config.data.files.size='(32, 32)' may add any key."""

    def get_type(self, key):
        if key not in self:
            self[key] = config_dict.placeholder(object)
        return super().get_type(key)

    def lock(self):
        return self


def chosen(arg: str, allowed, default: str) -> tuple[str, bool]:
    """Return the name in a config's argument (NAME, smoke, NAME,smoke or nothing), and whether to shrink the config.

    Raises `ValueError` for a name that is not among `allowed`, and for two.
    """
    words = [word for word in arg.split(",") if word]
    name = ",".join(word for word in words if word != "smoke") or default
    if name not in allowed:
        words = [*filter(None, allowed), "smoke"]
        raise ValueError(f"--config=FILE:{arg}: unknown value {name!r}{nearest(name, words)}")
    return name, "smoke" in words


def is_smoke(arg: str) -> bool:
    """Return True if the argument of a config without names is `smoke`. Raises `ValueError` for another word."""
    return chosen(arg, ("",), "")[1]


def smoke(config: ConfigDict) -> ConfigDict:
    """Return the same experiment, small enough for a test: every code path, but no meaningful result."""
    if config.learner.name not in ("counting", "em"):  # whose batches must make up the whole data
        config.data.batch_size = 8
    levels = list(config.model.levels.values()) if "levels" in config.model else [config.model]
    for level in levels:
        if "latent_dim" in level:
            level.latent_dim = min(level.latent_dim, 16)
    networks = [level[part] for level in levels for part in ("encoder", "decoder", "network") if part in level]
    for network in (*(config.model[part] for part in ("prior", "posterior") if part in config.model), *networks):
        for widths in ("hidden", "branches"):
            if widths in network:
                network[widths] = tuple(min(width, 16) for width in network[widths])
        if "channels" in network:
            network.channels = tuple(min(width, 4) for width in network.channels)
        if "num_components" in network:
            network.num_components = min(network.num_components, 4)
        if "num_flows" in network:
            network.num_flows = min(network.num_flows, 2)
    if "num_samples" in config.model.get("objective", ()):
        config.model.objective.num_samples = min(config.model.objective.num_samples, 3)
    config.train.update({"num_steps": 20, "log_every": 5, "eval_every": 10, "checkpoint_every": 10, "preview_every": 0})
    config.eval.update({"num_samples": 10, "num_test": 32})
    return config
