"""Files that appear whole or not at all, and JSON that every reader accepts. No file is written through a link."""

import contextlib
import json
import math
import os
from pathlib import Path


def finite(value):
    """Return numbers in dicts and lists with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def strict_json(value) -> str:
    """Return `value` as strict JSON: NaN and infinity become null."""
    return json.dumps(finite(value), indent=1, allow_nan=False) + "\n"


def read_json(path):
    """Return the value in a JSON file. Raises `ValueError` with the file's name if it is damaged or not a file."""
    if not Path(path).is_file():
        raise ValueError(f"{path} is missing, or is no regular file; restore it, or give another --workdir")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as JSON ({error}); restore it, or give another --workdir") from error


def write_json(path, value):
    """Write `value` as strict JSON. A reader never sees half a file."""
    write_text(path, strict_json(value))


def write_text(path, text):
    """Write `text` in UTF-8. A reader never sees half a file."""
    write_bytes(path, text.encode())


def write_bytes(path, content):
    """Write `content`. A reader never sees half a file. A link at `path` is replaced and not followed."""
    path = Path(path)
    with _temporary(path, content) as temporary:
        os.replace(temporary, path)


def create_text(path, text):
    """Write a new file. A file that another process has created in the meantime stays as it is."""
    with _temporary(path, text.encode()) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(temporary, path)


@contextlib.contextmanager
def _temporary(path, content):
    """Yield a new file beside `path` that holds `content`, and remove it at the end if it still exists."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
