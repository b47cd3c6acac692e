"""The models of each table, from a coin flip a pixel to a VAE: {table: {model: config}}.

A table has one data set, either its binary pixels or its grey levels. Models that learn by gradient get few steps here,
so that a table takes one or two hours on two cores; the configs have the results of more steps.
"""

from ml_collections import ConfigDict

from vae_jax.configs import (
    autoencoder_digits,
    belief_network_digits,
    bernoulli_mixture_digits,
    bernoulli_mixture_mnist,
    chow_liu_digits,
    continuous_flow_digits,
    diffusion_digits,
    diffusion_mnist,
    factor_analysis_digits,
    flow_digits,
    flow_mnist,
    flow_prior_mnist,
    gan_digits,
    gan_mnist,
    gaussian_mixture_digits,
    multivariate_normal_digits,
    naive_bayes_digits,
    pixel_cnn_digits,
    pixel_cnn_mnist,
    pixel_cnn_mnist_8bit,
    vae_digits,
    vae_mnist,
    vae_mnist_8bit,
    vq_vae_digits,
    vq_vae_mnist,
)

NUM_SAMPLES = 500  # K of the importance-weighted bounds


def mnist() -> dict[str, ConfigDict]:
    """Dynamically binarised MNIST, the test set in one fixed draw."""
    independent = _sums(naive_bayes_digits.get_config(), "mnist", 1000, passes=2, batches=50)
    independent.data.context.name = "none"
    naive_bayes = _sums(naive_bayes_digits.get_config(), "mnist", 1000, passes=2, batches=50)
    naive_bayes.model.given_class = False
    mixture = bernoulli_mixture_mnist.get_config()
    mixture.data.name = "mnist"
    return {
        "independent pixels": independent,
        "naive Bayes, 10 classes": naive_bayes,
        "Chow-Liu tree": _sums(chow_liu_digits.get_config(), "mnist", 1000, passes=2, batches=50),
        "500 Bernoullis": mixture,
        "sigmoid belief network": _network("mnist", {"name": "made", "hidden": (), "activation": "relu"}, 8_000),
        "MADE, 500 hidden": _network("mnist", {"name": "made", "hidden": (500,), "activation": "relu"}, 8_000),
        "auto-encoder, 40 codes": _autoencoder("mnist", "bottleneck"),
        "denoising auto-encoder, 40 codes": _autoencoder("mnist", "denoising"),
        "VAE, 2 codes": _vae("mnist", num_steps=8_000, latent_dim=2),
        "VAE, 40 codes": _vae("mnist", num_steps=16_000),
        "VAE, flow prior": _shorter(flow_prior_mnist.get_config(), 16_000),
        "diffusion": _shorter(diffusion_mnist.get_config("binary"), 2_000),
        "PixelCNN": _shorter(pixel_cnn_mnist.get_config(), 2_000),
    }


def digits() -> dict[str, ConfigDict]:
    """The 17 grey levels of scikit-learn's digits."""
    probabilistic_pca = factor_analysis_digits.get_config()
    probabilistic_pca.model.update({"noise": "isotropic", "fit": "closed_form"})
    probabilistic_pca.learner = ConfigDict({"name": "counting"})
    probabilistic_pca.train.update(multivariate_normal_digits.get_config().train)
    softmax = _digits_vae({"name": "categorical", "num_levels": 17}, "levels")
    autoencoder = autoencoder_digits.get_config()
    autoencoder.data.transform = "dequantize"
    autoencoder.model.likelihood = ConfigDict({"name": "normal_fixed_scale", "scale": 0.1})
    return {
        "independent normals": _gaussians(gaussian_mixture_digits.get_config(), 1, "diagonal", 1e-4),
        "multivariate normal": multivariate_normal_digits.get_config(),
        "probabilistic PCA, 16": probabilistic_pca,
        "factor analysis, 16": factor_analysis_digits.get_config(),
        "50 diagonal normals": _gaussians(gaussian_mixture_digits.get_config(), 50, "diagonal", 2e-3),
        "10 full normals": gaussian_mixture_digits.get_config(),
        "auto-encoder, 8 codes": autoencoder,
        "VAE, normal pixels": _digits_vae({"name": "normal"}, "dequantize"),
        "VAE, softmax pixels": softmax,
        "VQ-VAE, PixelCNN prior": vq_vae_digits.get_config(),
        "normalising flow": flow_digits.get_config(),
        "continuous flow": continuous_flow_digits.get_config(),
        "diffusion": _shorter(diffusion_digits.get_config(), 2_000),
        "PixelCNN, softmax": pixel_cnn_digits.get_config(),
        "GAN": gan_digits.get_config(),
    }


def fashion_mnist() -> dict[str, ConfigDict]:
    """The 256 grey levels of Fashion-MNIST."""
    name, batch, batches = "fashion_mnist", 1000, 50
    pca = _sums(digits()["probabilistic PCA, 16"], name, batch, passes=1, batches=batches)
    factors = _sums(factor_analysis_digits.get_config(), name, batch, passes=40, batches=batches)
    pca.model.latent_dim = factors.model.latent_dim = 50
    factors.model.min_variance = 1e-6  # that of the dequantisation of a pixel that never changes
    normal = _sums(multivariate_normal_digits.get_config(), name, batch, passes=1, batches=batches)
    normal.model.shrinkage = 1e-4
    diagonal, tied, full = (
        _sums(_gaussians(gaussian_mixture_digits.get_config(), *what), name, batch, passes=passes, batches=batches)
        for *what, passes in ((1, "diagonal", 1e-6, 2), (100, "tied", 1e-5, 20), (10, "full", 1e-4, 10))
    )
    autoencoder = _autoencoder(name, "bottleneck")
    autoencoder.data.transform = "dequantize"
    autoencoder.model.likelihood = ConfigDict({"name": "normal_fixed_scale", "scale": 0.1})
    logistic = _vae(name, num_steps=4_000)
    logistic.data.transform = "levels"
    logistic.model.likelihood = ConfigDict({"name": "discretized_logistic_mixture", "num_components": 3})
    logistic.eval.num_samples = 100
    vae = _vae(name, num_steps=12_000)
    vae.data.transform = "dequantize"
    vae.model.likelihood = ConfigDict({"name": "normal"})
    return {
        "independent normals": diagonal,
        "multivariate normal": normal,
        "probabilistic PCA, 50": pca,
        "factor analysis, 50": factors,
        "100 normals, one covariance": tied,
        "10 full normals": full,
        "auto-encoder, 40 codes": autoencoder,
        "VAE, normal pixels": vae,
        "VAE, logistic mixtures": logistic,
    }


def mnist_8bit() -> dict[str, ConfigDict]:
    """The 256 grey levels of MNIST."""
    codes = _shorter(vq_vae_mnist.get_config(), 2_000)
    codes.learner.only = ()  # the prior learns along
    game = gan_mnist.get_config()
    game.train.num_steps = 2_000
    return {
        "VAE, logistic mixtures": _shorter(vae_mnist_8bit.get_config(), 4_000),
        "VQ-VAE, PixelCNN prior": codes,
        "normalising flow": _shorter(flow_mnist.get_config(), 1_500),
        "diffusion": _shorter(diffusion_mnist.get_config(), 1_500),
        "PixelCNN, softmax": _shorter(pixel_cnn_mnist_8bit.get_config(), 1_500),
        "PixelCNN, ten logistics": _shorter(pixel_cnn_mnist_8bit.get_config("logistics"), 1_500),
        "GAN": game,
    }


TABLES = {"mnist": mnist, "mnist_8bit": mnist_8bit, "digits": digits, "fashion_mnist": fashion_mnist}


def _sums(config, data, batch_size, *, passes, batches):
    """Return `config`, of a family fitted by sums, for the data set `data` in `batches` batches."""
    config.data.update({"name": data, "batch_size": batch_size})
    bernoulli_mixture_digits.train_for(config, passes=passes, batches=batches)
    config.train.update({"eval_every": passes * batches, "checkpoint_every": passes * batches})
    return config


def _shorter(config, num_steps):
    vae_mnist.train_for(config, num_steps=num_steps)
    config.train.update({"eval_every": num_steps // 2, "preview_every": 0})
    return config


def _gaussians(config, num_components, covariance, floor):
    config.model.num_components = num_components
    config.model.components.update({"covariance": covariance, "floor": floor})
    return config


def _network(data, network, num_steps):
    config = belief_network_digits.get_config()
    config.model.network = ConfigDict(network)
    return _by_gradient(config, data, num_steps)


def _vae(data, *, num_steps, latent_dim=40):
    config = vae_mnist.get_config()
    config.model.latent_dim = latent_dim
    config.model.objective.beta.steps = num_steps // 10
    return _by_gradient(config, data, num_steps)


def _digits_vae(likelihood, transform):
    config = vae_digits.get_config()
    config.model.likelihood = ConfigDict(likelihood)
    config.data.transform = transform
    config.eval.num_samples = NUM_SAMPLES
    return config


def _autoencoder(data, kind):
    config, vae = autoencoder_digits.get_config(kind), vae_mnist.get_config()
    for part in ("latent_dim", "encoder", "decoder"):
        config.model[part] = vae.model[part]
    return _by_gradient(config, data, num_steps=8_000)


def _by_gradient(config, data, num_steps):
    config.data.update({"name": data, "batch_size": 128})
    vae_mnist.train_for(config, num_steps=num_steps)
    config.eval.num_samples = NUM_SAMPLES
    return config
