"""From a config to a trained run and back: what launchers, notebooks and users share."""
