"""Studies and arguments that tests render, by name."""

_STUDY = """\
study: digits
objective: {task: digits, hidden: [16]}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning}
trainers: {number: 3, cpus: 2, gpus: GPUS}
budget: {steps: 300}
"""
ON_CPUS, ON_GPUS = _STUDY.replace("GPUS", "0"), _STUDY.replace("GPUS", "1")
SWEEP = """\
study: digits-sweep
objective: {task: digits}
regularizers: {dropout: {rate: 0.1}}
budget: {steps: 300}
sweep: {over: {regularizers.dropout.rate: domain}, trials: 12}
"""
DIGEST = "@sha256:" + 64 * "5"
PRODUCTION = (
    *("--overlay", "production", "--host", "selftune.example.org", "--s3-cidr", "203.0.113.0/24"),
    *("--image", f"registry.example.org/selftune{DIGEST}", "--postgresql-image", f"postgres{DIGEST}"),
    *("--gateway-image", f"nginxinc/nginx-unprivileged{DIGEST}", "--mlflow-artifacts", "s3://acme/mlflow"),
)
SPOT = ("--overlay", "gpu-spot", "--api-server", "192.0.2.10/32")
TO_ACME = ("--output-address", "s3://acme/studies/digits")

CASES = {
    "cpu-small": (ON_CPUS, "--overlay", "cpu-small"),
    "gpu": (ON_GPUS, "--overlay", "gpu"),
    "gpu-spot": (ON_GPUS, *SPOT),
    "production": (ON_CPUS, *PRODUCTION, *TO_ACME),
    "production on GPUs": (ON_GPUS, *PRODUCTION, *TO_ACME, "--s3-endpoint", "https://s3.example.org"),
    "sweep": (SWEEP, "--overlay", "cpu-small"),
    "nightly": (SWEEP, "--overlay", "cpu-small", "--schedule", "0 2 * * *"),
    "interactive": (ON_GPUS, "--overlay", "gpu", "--interactive"),
    "interactive in a queue": (ON_GPUS, "--overlay", "gpu", "--interactive", "--queue", "team-a"),
    "interactive on spot": (ON_GPUS, *SPOT, "--interactive", "--volume", "shared"),
    "in a queue": (ON_GPUS, "--overlay", "gpu", "--queue", "team-a"),
    "gang": (ON_GPUS, "--overlay", "gpu", "--gang", "team-a"),
    "on a volume": (ON_CPUS, "--overlay", "cpu-small", "--volume", "shared"),
    "nightly on spot": (ON_GPUS, *SPOT, "--schedule", "0 2 * * 1-5", "--volume", "shared"),
    "named": (ON_CPUS, "--overlay", "cpu-small", "--name", "other", "--namespace", "research"),
}
USUAL = ("gpu-spot", "production", "nightly")
"""Those that are rendered in every run of the tests; the others are of the full matrix."""
