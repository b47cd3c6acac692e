"""Both forms of a convolution compute its equation, and `convolve_transpose` is the adjoint of `convolve`."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.networks import conv

CASES = [(3, 1), (5, 1), (2, 2), (4, 2), (8, 4), (3, 3)]
HEIGHT, WIDTH, CHANNELS, FEATURES = 12, 24, 3, 2
FORMS = ("products", "native")


def array(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def use(monkeypatch, form):
    """Take one form of every convolution, whatever the platform."""
    monkeypatch.setattr(conv, "by_platform", lambda *args, **forms: forms[form](*args))


def inputs(size, stride, transposed):
    """(x, kernel, a cotangent of the output)."""
    fine, coarse = (HEIGHT, WIDTH), (HEIGHT // stride, WIDTH // stride)
    source, target = (coarse, fine) if transposed else (fine, coarse)
    return array(0, *source, CHANNELS), array(1, size, size, CHANNELS, FEATURES), array(2, *target, FEATURES)


def by_definition(x, kernel, stride):
    """Σ_ij x[s h + i - p, s w + j - p] K[i, j], one pixel at a time."""
    x, kernel, size = np.asarray(x, np.float64), np.asarray(kernel, np.float64), len(kernel)
    pad = (size - stride) // 2
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    y = np.empty(((x.shape[0] - size) // stride + 1, (x.shape[1] - size) // stride + 1, kernel.shape[-1]))
    for h, w in np.ndindex(*y.shape[:2]):
        window = x[stride * h : stride * h + size, stride * w : stride * w + size]
        y[h, w] = np.tensordot(window, kernel, 3)
    return y


def by_definition_transposed(x, kernel, stride):
    """y[s h + i - p, s w + j - p] += x[h, w] K[i, j], one pixel at a time."""
    x, kernel, size = np.asarray(x, np.float64), np.asarray(kernel, np.float64), len(kernel)
    pad = (size - stride) // 2
    y = np.zeros((x.shape[0] * stride + 2 * pad, x.shape[1] * stride + 2 * pad, kernel.shape[-1]))
    for h, w in np.ndindex(*x.shape[:2]):
        y[stride * h : stride * h + size, stride * w : stride * w + size] += np.tensordot(kernel, x[h, w], (2, 0))
    return y[pad : y.shape[0] - pad, pad : y.shape[1] - pad]


@pytest.mark.parametrize("size, stride", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_a_convolution_is_its_definition(monkeypatch, size, stride, form):
    use(monkeypatch, form)
    there, back = (jax.jit(lambda x, k, f=f: f(x, k, stride)) for f in (conv.convolve, conv.convolve_transpose))
    x, kernel, _ = inputs(size, stride, False)
    np.testing.assert_allclose(there(x, kernel), by_definition(x, kernel, stride), atol=1e-4)
    x, kernel, _ = inputs(size, stride, True)
    np.testing.assert_allclose(back(x, kernel), by_definition_transposed(x, kernel, stride), atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_few_outputs_of_many_inputs(monkeypatch, size):
    """The product comes first; the result is the same."""
    x, kernel, y = array(0, 6, 5, 7), array(1, size, size, 7, 2), array(2, 6, 5, 2)
    outputs = []
    for form in FORMS:
        use(monkeypatch, form)
        value, back = jax.vjp(jax.jit(lambda *a: conv.convolve(*a, 1)), x, kernel)
        np.testing.assert_allclose(value, by_definition(x, kernel, 1), atol=1e-4)
        outputs.append(back(y))
    for products, native in zip(*outputs, strict=True):
        np.testing.assert_allclose(products, native, atol=1e-4 * np.abs(native).max())


@pytest.mark.parametrize("window", [(2, 5), (1, 3), (4, 1)])
def test_windows_inside_an_image(monkeypatch, window):
    x, kernel = array(0, 6, 7, CHANNELS), array(1, *window, CHANNELS, FEATURES)
    cotangent = array(2, 7 - window[0], 8 - window[1], FEATURES)
    outputs = []
    for form in FORMS:
        use(monkeypatch, form)
        y, back = jax.vjp(jax.jit(lambda *a: conv.convolve_inside(*a)), x, kernel)
        outputs.append((y, *back(cotangent)))
        expected = sum(x[i : i + len(y), j : j + y.shape[1]] @ kernel[i, j] for i, j in np.ndindex(window))
        np.testing.assert_allclose(y, expected, atol=1e-4)
    for one, other in zip(*outputs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("size, stride", CASES)
@pytest.mark.parametrize("name", ["convolve", "convolve_transpose"])
def test_both_forms_have_the_same_gradients(monkeypatch, name, size, stride):
    x, kernel, cotangent = inputs(size, stride, name == "convolve_transpose")
    gradients = []
    for form in FORMS:
        use(monkeypatch, form)
        run = jax.jit(lambda x, kernel: jax.vjp(lambda *a: getattr(conv, name)(*a, stride), x, kernel)[1](cotangent))
        gradients.append(run(x, kernel))
    for products, native in zip(*gradients, strict=True):
        np.testing.assert_allclose(products, native, atol=1e-4 * np.abs(native).max())


@pytest.mark.parametrize("size, stride", [(3, 1), (4, 2), (8, 4)])
@pytest.mark.parametrize("form", FORMS)
def test_the_transpose_is_the_adjoint(monkeypatch, size, stride, form):
    """<convolve(x, K), y> = <x, convolve_transpose(y, K with its channels swapped)>."""
    use(monkeypatch, form)
    x, kernel, y = inputs(size, stride, False)
    there = jax.jit(lambda x: jnp.vdot(conv.convolve(x, kernel, stride), y))(x)
    back = jax.jit(lambda y: jnp.vdot(x, conv.convolve_transpose(y, jnp.swapaxes(kernel, 2, 3), stride)))(y)
    np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-3)


def test_both_forms_agree_under_vmap(monkeypatch):
    kernel, image, latent = array(0, 4, 4, 3, 2), array(1, 5, 8, 8, 3), array(2, 5, 4, 4, 3)
    outputs = []
    for form in FORMS:
        use(monkeypatch, form)
        down = jax.vmap(lambda x: conv.convolve(x, kernel, 2))
        up = jax.vmap(lambda x: conv.convolve_transpose(x, kernel, 2))
        outputs.append((jax.jit(down)(image), jax.jit(up)(latent)))
    for one, other in zip(*outputs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


CONVOLUTIONS = {
    "convolve": (lambda x, k: conv.convolve(x, k, 2), (8, 8, 3)),
    "convolve_transpose": (lambda x, k: conv.convolve_transpose(x, k, 2), (4, 4, 3)),
    "convolve_inside": (lambda x, k: conv.convolve_inside(x, k, 2), (9, 8, 3)),
}


def steps(function, shape):
    """The gradient of three steps through a batch of convolutions: scan, vmap and grad of one program."""

    def loss(x, kernel):
        def body(x, _):
            y = jax.vmap(function, (0, None))(x, kernel)
            return x + jnp.mean(jnp.square(y)), None

        return jnp.sum(jax.lax.scan(body, x, None, length=3)[0])

    return jax.grad(loss, (0, 1)), (array(0, 2, *shape), array(1, 4, 4, shape[-1], FEATURES))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_platform_of_the_program_chooses_the_form(platform, name):
    program, args = steps(*CONVOLUTIONS[name])
    assert jax.tree.map(jnp.shape, args) == jax.tree.map(jnp.shape, jax.eval_shape(program, *args))
    text = jax.jit(program).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) is (platform != "cpu")


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_choice_changes_no_bit_on_cpu(monkeypatch, name):
    program, args = steps(*CONVOLUTIONS[name])
    chosen = jax.jit(program)(*args)
    use(monkeypatch, "products")
    jax.tree.map(np.testing.assert_array_equal, chosen, jax.jit(lambda *a: program(*a))(*args))


def test_one_program_for_every_platform_computes_the_same():
    program, args = steps(*CONVOLUTIONS["convolve"])
    exported = jax.export.export(jax.jit(program), platforms=("cpu", "cuda", "tpu"))(*args)
    jax.tree.map(np.testing.assert_array_equal, exported.call(*args), jax.jit(program)(*args))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_forward_mode_works_on_accelerators(platform):
    function, shape = CONVOLUTIONS["convolve"]
    x, kernel = array(0, *shape), array(1, 4, 4, 3, FEATURES)
    forward = jax.jit(lambda x: jax.jvp(lambda x: function(x, kernel), (x,), (x,)))
    assert "stablehlo.convolution" in forward.trace(x).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("size, stride", [(3, 2), (4, 1), (5, 2)])
def test_kernels_that_reach_unevenly_are_refused(size, stride):
    x, kernel, _ = inputs(size, stride, False)
    for convolution in (conv.convolve, conv.convolve_transpose):
        with pytest.raises(ValueError, match=f"kernel {size} must be a multiple of stride {stride}"):
            convolution(x, kernel, stride)


def test_images_that_the_stride_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"image 9x10 \(padded\) is not divisible by stride 2"):
        conv.convolve(jnp.zeros((7, 8, 1)), jnp.zeros((4, 4, 1, 1)), 2)


def test_a_context_is_appended_at_every_pixel():
    """A vector as it is; an image of another size by the nearest of its pixels."""
    x, vector, image = array(0, 4, 6, 1), array(1, 3), array(2, 2, 3, 2)
    same = array(3, 4, 6, 2)
    assert conv.with_context(x, None) is x
    for context, planes in (
        (vector, np.tile(vector, (4, 6, 1))),
        (same, same),
        (image, np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)),
        (jnp.repeat(jnp.repeat(same, 3, axis=0), 3, axis=1), same),
    ):
        np.testing.assert_array_equal(conv.with_context(x, context), np.concatenate([x, planes], axis=-1))
    assert conv.at_size(vector, (4, 6, 1)) is vector and conv.at_size(same, (4, 6, 1)) is same
