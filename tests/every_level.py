"""Runs the tests that compare numbers at every level of vector instructions, on one and two threads.

    .venv/bin/python tests/every_level.py [arguments of pytest]

Wider vectors add in another order, so each level stands for other processors. torch's own kernels, oneDNN and MKL
choose their instructions apart from one another; all three are told.
"""

import os
import subprocess
import sys
import time

import torch

LEVELS = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "ALL", "MKL_CBWR": "AVX512"},
}


def levels():
    """The names of those that this processor has, the plainest first."""
    highest = torch.backends.cpu.get_cpu_capability().lower()
    names = list(LEVELS)
    return names[: names.index(highest) + 1] if highest in names else names[:1]


def run(level, threads, arguments):
    """One run of the tests marked ``numerical``; its exit status."""
    print(f"--- {level}, {threads} thread{'s' if threads > 1 else ''}", flush=True)
    processes = max(1, (os.cpu_count() or 1) // threads)
    parallel = ["--numprocesses", str(processes), "--dist", "loadfile"] if processes > 1 else []
    command = [sys.executable, "-m", "pytest", "-m", "numerical", *parallel, *arguments]
    environment = os.environ | LEVELS[level] | {"OMP_NUM_THREADS": str(threads)}
    start = time.monotonic()
    status = subprocess.run(command, env=environment).returncode
    print(f"--- {time.monotonic() - start:.0f} s", flush=True)
    return status


def main(arguments):
    statuses = [run(level, threads, arguments) for level in levels() for threads in (1, 2)]
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
