"""Studies that tests render."""

_STUDY = """\
study: digits
objective: {task: digits, hidden: [16]}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning}
trainers: {number: 3, cpus: 2, gpus: GPUS}
budget: {steps: 300}
"""
ON_CPUS, ON_GPUS = _STUDY.replace("GPUS", "0"), _STUDY.replace("GPUS", "1")
