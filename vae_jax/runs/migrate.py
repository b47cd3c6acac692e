"""Configs of earlier versions, brought up to date in one place."""

from collections.abc import Mapping

ADDED = {  # options that earlier versions did not have, with the values that they stood for
    "start_from": "",
    "learner": {"name": "gradient"},
    "mesh": {"data": -1, "model": 1},
    "data": {"leave_out": (), "num_workers": 0, "buckets": 1, "max_value": 0, "tokens": {}, "audio": {}, "files": {}},
    "train": {"keep": 2, "preview_every": 0, "writers": ()},
}


def migrate_flag(argument: str) -> str:
    """Return a command's argument in its form of today.

    --config.data.context took True or False, and --config.train.tensorboard was a switch.
    """
    name, _, value = argument.partition("=")
    if name == "--config.train.tensorboard" and value.lower() in ("", "true", "false"):
        return f"--config.train.writers={'()' if value.lower() == 'false' else 'tensorboard'}"
    if name == "--config.data.context" and value.lower() in ("true", "false"):
        return f"{name}.name={_context_name(value.lower() == 'true')}"
    return argument


def _context_name(is_label: bool) -> str:
    return "label" if is_label else "none"


def migrate(config):
    """Return `config` with the options of today. Anything that is not a config stays as it is, and is refused later.

    This is called wherever a config enters: from a workdir, a checkpoint, a config file, a command or a user's dict.
    """
    if not isinstance(config, Mapping):
        return config
    config = {**{name: value for name, value in ADDED.items() if name not in ("data", "train")}, **config}
    for name in ("data", "train", "mesh"):
        if isinstance(config.get(name), Mapping):
            config[name] = {**ADDED[name], **config[name]}
    if isinstance(train := config.get("train"), Mapping) and isinstance(train.get("tensorboard"), bool):
        if train.pop("tensorboard"):
            train["writers"] = ("tensorboard",)
    if isinstance(train, Mapping) and isinstance(names := train.get("writers"), tuple | list):
        parts = [
            str(name).split(",") if isinstance(name, str) else [name] for name in names
        ]  # a flag: tensorboard,wandb
        train["writers"] = type(names)(part for some in parts for part in some)
    if isinstance(config.get("data"), Mapping) and isinstance(context := config["data"].get("context"), bool):
        config["data"]["context"] = {"name": _context_name(context)}
    return config
