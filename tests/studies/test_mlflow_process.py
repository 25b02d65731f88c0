import io
import subprocess
import sys

from rich.console import Console

from selftune.studies import mlflow_process
from selftune.studies.mlflow_process import MlflowProcess


def test_neither_arguments_nor_last_words_hold_the_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:S3CRET@server")
    started = []

    def start(command, **settings):
        started.append(command)
        words = "import sys; sys.exit('ValueError: no route to me:S3CRET@server')"
        return subprocess.Popen([sys.executable, "-IS", "-c", words], **settings)

    class Subprocess:  # as the module sees it
        Popen = staticmethod(start)
        DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    monkeypatch.setattr(mlflow_process, "subprocess", Subprocess)
    process = MlflowProcess(tmp_path)
    console = Console(file=io.StringIO(), width=200)
    process.finish(console, patient=True)
    assert started == [[sys.executable, "-m", "selftune.studies.mlflow_process", str(tmp_path), "--follow"]]
    assert console.file.getvalue() == "MLflow: ValueError: no route to ***@server\n"
