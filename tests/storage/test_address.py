import pytest

from selftune.storage.address import hide, is_whole, without_password

WITH_SECRETS = [
    ("postgresql://me:S3CRET@db/runs", "postgresql://***@db/runs"),
    ("postgresql+psycopg2://me:S3CRET@db:5432/runs", "postgresql+psycopg2://***@db:5432/runs"),
    ("postgresql://me:a@S3CRET@db/runs", "postgresql://***@db/runs"),
    ("postgresql://me:a/S3CRET@db/runs", "postgresql://***@db/runs"),
    ("postgresql://me:a?S3CRET@db/runs", "postgresql://***"),
    ("postgresql://me:a#S3CRET@db/runs", "postgresql://***"),
    ("postgresql://me:S3CRET%40@db/runs", "postgresql://***@db/runs"),
    ("postgresql://:S3CRET@db/runs", "postgresql://***@db/runs"),
    ("https://S3CRET@server", "https://***@server"),
    ("https://S3CRET:@server/path", "https://***@server/path"),
    ("https://S3CRET:x-oauth-basic@server", "https://***@server"),
    ("https://ab/S3CRET==@server", "https://***@server"),
    ("https://server?password=S3CRET", "https://server?password=***"),
    ("https://server/api?user=me&token=S3CRET&timeout=3", "https://server/api?user=***&token=***&timeout=3"),
    ("https://server?S3CRET", "https://server?***"),
    ("https://server?password=a&S3CRET", "https://server?password=***&***"),
    ("https://server?timeout=3;password=S3CRET", "https://server?timeout=***"),
    ("https://server/#access_token=S3CRET", "https://server/#***"),
    ("https://me:S3CRET@server?password=S3CRET", "https://***@server?password=***"),
    ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3DS3CRET", "mssql+pyodbc:///?odbc_connect=***"),
    ("postgresql://db/runs?password=a@S3CRET", "postgresql://***"),
    ("sqlite:////runs/x.db?key=S3CRET", "sqlite:////runs/x.db?key=***"),
    ("postgresql:/me:S3CRET@db/runs", "postgresql:/***@db/runs"),
    ("me:S3CRET@db/runs", "***@db/runs"),
    ("HTTPS://me:S3CRET@server", "HTTPS://***@server"),
]


@pytest.mark.parametrize(("address", "shown"), WITH_SECRETS)
def test_nothing_secret_is_left(address, shown):
    assert without_password(address) == shown
    assert without_password(shown) == shown  # what was written down stays a key for it
    assert not is_whole(shown)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:5000",
        "https://server:8443/path/to/mlflow",
        "sqlite:///mlflow.db",
        "sqlite:////home/me@work/mlflow.db",
        "sqlite:////home/a#b/mlflow.db?timeout=30",
        "file:///home/me@work/mlruns",
        "/home/me@work/mlruns",
        "runs",
        "databricks",
        "databricks://profile",
        "postgresql://db/runs?sslmode=require&connect_timeout=10",
        "",
    ],
)
def test_an_address_without_secrets_stays(address):
    assert without_password(address) == address
    assert hide(f"could not open {address}!", address) == f"could not open {address}!"


@pytest.mark.parametrize("address", [address for address, _ in WITH_SECRETS])
@pytest.mark.parametrize(
    "message",
    [
        "Could not parse SQLAlchemy URL from string '{}'",
        'invalid dsn: "{}"',
        "HTTPConnectionPool: Max retries exceeded with url {}/api/2.0/x (NewConnectionError)",
        'FATAL: password authentication failed for user "me" (password S3CRET)',
        "Invalid port: 'S3CRET'",
        "login with S3CRET%40 refused, S3CRET@ too, and at http://other:S3CRET@proxy:3128",
    ],
)
def test_what_a_library_says_is_cleared_of_what_it_was_given(address, message):
    assert "S3CRET" not in hide(message.format(address), address)


def test_parts_of_a_password_with_signs_in_it_are_hidden_in_every_spelling():
    address = "postgresql://me:p%40ss%2Fw%20rd@db/runs"
    for written in ("p%40ss%2Fw%20rd", "p@ss/w rd", "p%40ss%2Fw+rd"):
        assert hide(f"refused: {written}.", address) == "refused: ***."


def test_short_secrets_do_not_eat_words():
    assert hide('postgresql: user "postgres", password "ab", a database', "postgresql://postgres:ab@db/x") == (
        'postgresql: user "***", password "***", a database'
    )


def test_credentials_of_the_environment_are_hidden(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "S3CRET")
    assert hide("refused Bearer S3CRET", "https://server") == "refused Bearer ***"
