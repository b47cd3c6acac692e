"""The errors of options, in one line: what was given, what is allowed, and the nearest name.

A function raises `BadOption` about its own argument; `under` puts the path of a dict in front (`spec`). Nothing here
needs JAX, so that a command can refuse a wrong flag before it is imported.
"""

import contextlib
import difflib


class BadOption(ValueError):
    """The error of a keyword argument that cannot take a value.

    The message begins with the name of the argument, or with ":" or a space if it is about the whole dict of options.
    `under` puts the path in front.
    """


def shown(value) -> str:
    """Return `value` as text for an error, which is one line."""
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to print very long numbers
        return f"a number of {value.bit_length()} bits"
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:100]} ..."


def first_line(error) -> str:
    """Return the type of an exception and the first line of its message, for the error that a user sees."""
    text = str(error).strip().partition("\n")[0].rstrip(":;, ")[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def under(path: str):
    """Put `path` in front of every `BadOption` raised within, as in "encoder.hidden must be ..."."""
    try:
        yield
    except BadOption as error:
        raise BadOption(_joined(path, str(error))) from error


def _joined(path, message):
    return f"{path}{message}" if not path or message.startswith((":", " ")) else f"{path}.{message}"


def nearest(word: str, allowed) -> str:
    """Return the end of an error message: "; did you mean ...?" and the allowed words."""
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (allowed: {', '.join(sorted(allowed)) or 'none'})"
