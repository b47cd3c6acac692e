"""Write report.html, one page about a trained model, again.

    vae-jax report --workdir=DIR

Training writes it at the end. Write it again after `evaluate`, or with a newer version of this library.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a trained model.", required=True)


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import page

    print(f"page in {page.write(WORKDIR.value)}")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
