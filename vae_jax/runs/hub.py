"""Models on the Hugging Face hub: an exported model or a saved run as one repository with a model card.

Only files that are read without executing code are uploaded or downloaded: JSON, safetensors, programs of `jax.export`,
checkpoints of Orbax, text and pictures. Nothing is unpickled.
"""

from pathlib import Path

from absl import logging

from vae_jax.files import read_json, strict_json
from vae_jax.runs import card, exported
from vae_jax.spec import first_line

SAFE = (  # patterns of the files that travel
    *("*.json", "*.jsonl", "*.safetensors", "programs/*.bin", "checkpoints/*", "*.md", "*.txt", "*.csv", "*.html"),
    *("*.png", "*.svg", "*.pdf", "*.wav"),
)
NEVER = ("*.pkl", "*.pickle", "*.joblib", "*.pt", "*.pth", "*.ckpt", "*.py", ".*", "*/.*")  # even if SAFE allows them
LOCAL = "file://"


def push_to_hub(folder, repo_id, *, revision=None, private=None, message="Upload a model of vae_jax", api=None) -> str:
    """Upload an exported model or a saved run in one commit, and return its address.

    The README.md of the repository is that of the folder with the front matter of a model card. The path of the data
    is removed from config.json.

    Args:
      folder: what `export` or `Run.save` has written.
      repo_id: "name/model"; the repository is created if it does not exist.
      revision: the branch; None for the main one.
      private: True for a new repository that only its owner sees; None for the default of the owner.
      message: the first line of the commit.
      api: a `huggingface_hub.HfApi` with a token or an endpoint of its own; None for the default.

    Raises `ValueError` for a folder that holds neither, for a damaged export, and if the hub refuses.
    """
    from huggingface_hub.utils import filter_repo_objects

    folder, hub = Path(folder).expanduser(), _hub()
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no exported model and no run: it has no config.json")
    if (folder / exported.MANIFEST).is_file():
        exported.check(folder)
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = set(filter_repo_objects(paths, allow_patterns=SAFE, ignore_patterns=NEVER))
    if left_out := [name for name in paths if name not in names]:
        logging.info("not uploaded: %s", ", ".join(left_out))
    contents = {name: str(folder / name) for name in sorted(names)}
    contents |= {"README.md": card.model_card(folder).encode(), "config.json": _config(folder / "config.json")}
    commit = [hub.CommitOperationAdd(name, content) for name, content in contents.items()]
    api = api or hub.HfApi()
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.create_commit(repo_id, commit, commit_message=message, revision=revision)
    except Exception as error:  # of the hub, of HTTP, of a name that is none
        raise ValueError(f"{repo_id} was not uploaded: {first_line(error)}") from error
    return str(address)


def from_hub(repo_id, *, revision=None, cache_dir=None, api=None) -> Path:
    """Return the local folder of a model on the hub, which is downloaded if the cache does not have it.

    `load_exported` reads the folder of an exported model.

    Args:
      repo_id: "name/model"; or "file://" and a folder, which is returned as it is.
      revision: a branch, a tag or a commit; None for the newest state of the main branch.
      cache_dir: where downloads are stored; None for the cache of huggingface_hub.
      api: a `huggingface_hub.HfApi` with a token or an endpoint of its own; None for the default.

    Raises `ValueError` if there is no such model, or if a file of an exported model is missing or damaged.
    """
    if str(repo_id).startswith(LOCAL):
        folder = Path(str(repo_id).removeprefix(LOCAL)).expanduser()
    else:
        options = {"revision": revision, "cache_dir": cache_dir, "allow_patterns": SAFE, "ignore_patterns": NEVER}
        try:
            folder = Path((api or _hub().HfApi()).snapshot_download(repo_id, **options))
        except Exception as error:  # of the hub, of HTTP, of a name that is none
            raise ValueError(f"{repo_id} was not downloaded: {first_line(error)}") from error
    if not (folder / "config.json").is_file():
        raise ValueError(f"{repo_id} is no model of vae_jax: it has no config.json")
    if (folder / exported.MANIFEST).is_file():
        exported.check(folder)
    return folder


def _hub():
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError("the hub needs 'huggingface_hub': pip install 'vae_jax[hub]'") from error
    return huggingface_hub


def _config(file) -> bytes:
    """Return config.json without the path of the data, which is of this machine."""
    config = read_json(file)
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        raise ValueError(f"{file} is not the config of a run")
    if not config["data"].get("path") and not config.get("start_from"):
        return file.read_bytes()
    return strict_json({**config, "data": {**config["data"], "path": ""}, "start_from": ""}).encode()
