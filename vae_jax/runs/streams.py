"""Standard output and error that never end a run."""

import codecs
import contextlib
import io
import os
import sys

PLAIN = {"±": "+-", "≥": ">=", "−": "-", "·": ".", "β": "beta"}  # for terminals that know no other letters


class _Lasting(io.FileIO):
    """A file descriptor that becomes silent when it cannot be written to (a closed pipe, a full disk).

    The run continues: its results are in files.
    """

    def write(self, data):
        try:
            return super().write(data) or len(data)  # None: a pipe that does not block, and is full
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def lasting(descriptor, encoding):
    """Return a text stream to `descriptor` whose writes never raise. Letters that `encoding` lacks are replaced."""
    codecs.register_error("plain", _plain)
    raw = io.BufferedWriter(_Lasting(descriptor, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding, "plain", line_buffering=True)


def make_lasting():
    """Replace standard output and error by lasting streams, except where they are redirected (in a notebook)."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            if stream is sys.__dict__[f"__{name}__"] and stream.fileno() == descriptor:
                with contextlib.suppress(OSError):
                    stream.flush()
                setattr(sys, name, lasting(descriptor, stream.encoding))
        except (AttributeError, OSError, ValueError):  # closed, or none
            continue


def _plain(error):
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in letters), error.end
