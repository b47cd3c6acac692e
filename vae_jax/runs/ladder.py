"""The ladder of a trained model's bounds of log p(x): for a diffusion, few steps, many, infinitely many, and an ODE."""

from vae_jax.evaluation import likelihood, yardstick
from vae_jax.runs import build, report
from vae_jax.spec import BadOption


def measure(experiment, params, *, num_samples, num_test) -> dict:
    """Return the flat `ladder/NAME/...` record of every rung: `log_prob`, `log_prob_se`, and `bits_per_dim`.

    A rung is the mean of `num_samples` estimates of each test example. Its standard error is that over the examples,
    and contains the error of the estimates.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      num_samples: how many estimates of each example.
      num_test: how many test examples; 0 for all.

    Raises `BadOption` for a model that has no further bounds.
    """
    if not experiment.model.bounds:
        raise BadOption(
            "--ladder: this model has no further bounds of log p(x); diffusion models and continuous flows have them"
        )
    test, offset = (
        report.test_examples(experiment, num_test),
        build.levels_offset(experiment.config, experiment.dataset),
    )
    key, units = report.measuring_key(experiment), report.units(experiment, test)
    rungs = likelihood.ladder(experiment.model, params, key, test, num_samples=num_samples)
    record = {}
    for name, terms in rungs.items():
        summary = likelihood.summary_of(terms["log_prob"] - offset, **units)
        record |= {f"ladder/{name}/{key}": value for key, value in summary.items() if key != "num_examples"}
    return record | {"ladder/num_samples": num_samples, "ladder/num_examples": len(test["x"])}


def table(record: dict) -> str:
    """Return the rungs of `measure` as lines for a person."""
    count = f"mean of {record['ladder/num_samples']} estimates, {record['ladder/num_examples']} test examples"
    lines = [f"ladder    bounds of log p(x), nats; {count}"]
    for name in dict.fromkeys(key.split("/")[1] for key in record if key.count("/") == 2):
        r = {key.split("/")[2]: value for key, value in record.items() if key.startswith(f"ladder/{name}/")}
        bits = f"   {r['bits_per_dim']:.4f} bits/dim" if "bits_per_dim" in r else ""
        lines.append(f"          {r['log_prob']:10.2f} ± {r['log_prob_se']:.2f}   {yardstick.BOUND} {name}{bits}")
    return "\n".join(lines)
