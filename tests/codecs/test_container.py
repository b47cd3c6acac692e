"""The file of a message: what was changed, cut, or written elsewhere is refused in one line."""

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from vae_jax.codecs import container

PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.zeros(3)}
HEADER = {"model": container.fingerprint(PARAMS), "by": container.environment(), "shape": [3, 2]}
FILE = container.pack(HEADER, np.arange(20, dtype=np.uint32))


def refused(data):
    with pytest.raises(ValueError) as error:
        container.unpack(data)
    message = str(error.value)
    assert message and "\n" not in message
    return message


def test_a_file_has_its_header_and_its_words():
    header, words = container.unpack(FILE)
    assert header == HEADER and np.array_equal(words, np.arange(20))
    container.check(header, PARAMS)


@hypothesis.given(st.integers(0, 8 * len(FILE) - 1))
def test_every_flipped_bit_is_found(bit):
    changed = bytearray(FILE)
    changed[bit // 8] ^= 1 << bit % 8
    message = refused(bytes(changed))
    if bit // 8 >= 12:
        assert "damaged" in message


@hypothesis.given(st.integers(0, len(FILE) - 1))
def test_a_truncated_file_is_refused(length):
    message = refused(FILE[:length])
    assert "truncated" in message or (length < 4 and "no compressed file" in message)


def test_other_files_are_refused():
    assert "longer" in refused(FILE + b"\0")
    assert "no compressed file" in refused(b"\x89PNG\r\n\x1a\n" + FILE)
    assert "version 2" in refused(FILE[:3] + b"\x02" + FILE[4:])


def test_another_model_and_another_place_are_refused():
    for other in ({**PARAMS, "b": PARAMS["b"] + 1e-7}, {"v": PARAMS["w"], "b": PARAMS["b"]}, {"w": PARAMS["w"]}):
        with pytest.raises(ValueError, match="another model"):
            container.check(HEADER, other)
    with pytest.raises(ValueError, match=r"written by jax 0\.1 on a toaster, and this is jax"):
        container.check(HEADER | {"by": "jax 0.1 on a toaster"}, PARAMS)
