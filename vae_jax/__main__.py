"""The console command of a checkout that is not installed: `python -m vae_jax train --flags`."""

from vae_jax.runs.commands import main

if __name__ == "__main__":
    main()
