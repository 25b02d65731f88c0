"""The gateway of the overlay production: its configuration in a real nginx, in front of a real MLflow."""

import contextlib
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from base64 import b64encode

import pytest
from services.name_server import name_server
from services.processes import free_port, running, wait_for
from studies_to_render import CASES

pytestmark = pytest.mark.integration

HOST = "selftune.example.org"
LOGIN = "ada:$2y$05$BQP4BuFNhRDnuoxSLwswZOIfvQ6TV1xnYCrbZIMgwSnNKR0eO4PI6"
BASIC = "Basic " + b64encode(b"ada:correct-horse").decode()


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Says what it was asked, and gives a cookie, as Ray's dashboard does."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Set-Cookie", "token=a; Path=/; HttpOnly")
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path, **self.headers}).encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def dashboard():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def container(manifests, name):
    (found,) = (m for m in manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == name)
    return found["spec"]["template"]["spec"]["containers"][0]


def configuration(manifests, folder, ports):
    """What the image makes of the template, with this test's folders and ports."""
    variables = {one["name"]: one["value"] for one in container(manifests, "gateway")["env"] if "value" in one}
    variables |= {"POD_NAMESPACE": "selftune", "NGINX_LOCAL_RESOLVERS": f"127.0.0.1:{ports['dns']}"}
    (config,) = (m for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "gateway")
    text = re.sub(r"\$\{(\w+)\}", lambda found: variables[found[1]], config["data"]["gateway.conf.template"])
    text = text.replace("/etc/gateway", str(folder)).replace("listen 8443", f"listen 127.0.0.1:{ports['gateway']}")
    text = text.replace("cluster.local:5000", f"cluster.local:{ports['mlflow']}")
    text = text.replace("cluster.local:8265", f"cluster.local:{ports['dashboard']}")
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"pid {folder}/pid; error_log stderr; daemon off; events {{}}\n"
        f"http {{ access_log off; {places}\n{text}\n}}\n"
    )


@pytest.fixture(scope="module")
def gateway(rendered, tmp_path_factory):
    """Asks nginx: a function of path, headers and what is sent; it gives status, headers and content."""
    manifests = rendered(*CASES["production"])
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "tls").mkdir()
    (folder / "login").mkdir()
    (folder / "login" / "htpasswd").write_text(LOGIN + "\n")
    key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        folder / "tls" / "tls.key",
    ]
    name = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-out", folder / "tls" / "tls.crt"]
    subprocess.run(["openssl", "req", "-x509", "-days", "1", *key, *name], check=True, capture_output=True)
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nginx, "nginx is not here; install it (Debian: apt-get install nginx-light)"
    with contextlib.ExitStack() as stack:
        ports = {"dns": stack.enter_context(name_server()), "dashboard": stack.enter_context(dashboard())}
        ports |= {"gateway": free_port(), "mlflow": free_port()}
        server = [sys.executable, "-m", *container(manifests, "mlflow")["command"]]
        server = [word for word in server if not word.startswith(("--host", "--port", "--backend", "--artifacts"))]
        server += [
            "--host=127.0.0.1",
            f"--port={ports['mlflow']}",
            f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
        ]
        server += [f"--artifacts-destination={folder}/artifacts"]
        log = folder / "mlflow.log"
        process = stack.enter_context(running(server, log, os.environ))
        (folder / "nginx.conf").write_text(configuration(manifests, folder, ports))
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "user root;"]
        gateway = stack.enter_context(running(command, folder / "nginx.log", os.environ))
        context = ssl.create_default_context(cafile=folder / "tls" / "tls.crt")

        def ask(path, sent=None, **headers):
            headers = {"Host": HOST, **{key.replace("_", "-"): value for key, value in headers.items()}}
            data = None if sent is None else json.dumps(sent).encode()
            return asked(context, ports["gateway"], path, data, headers)

        health = f"http://127.0.0.1:{ports['mlflow']}/health"
        wait_for(process, lambda: urllib.request.urlopen(health, timeout=5), log)
        wait_for(gateway, lambda: ask("/gateway/health")[0] == 204, folder / "nginx.log")
        yield ask


def asked(context, port, path, data, headers):
    import http.client
    import socket

    class Connection(http.client.HTTPSConnection):
        def connect(self):  # the certificate is the host's, the address this machine's
            plain = socket.create_connection(("127.0.0.1", port), 30)
            self.sock = context.wrap_socket(plain, server_hostname=HOST)

    connection = Connection(HOST)
    if data is not None:
        headers = {"Content-Type": "application/json", **headers}
    connection.request("GET" if data is None else "POST", path, data, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


SEARCH = "/api/2.0/mlflow/experiments/search"


def test_mlflow_asks_who_comes(gateway):
    assert gateway("/")[0] == 401
    assert gateway(SEARCH, {"max_results": 1})[0] == 401
    wrong = "Basic " + b64encode(b"ada:wrong-horse").decode()
    assert gateway("/", Authorization=wrong)[0] == 401
    status, headers, content = gateway("/", Authorization=BASIC)
    assert (status, b"MLflow" in content) == (200, True)
    assert "max-age" in headers["Strict-Transport-Security"]


def test_a_browser_may_change_what_is_in_mlflow_and_other_sites_may_not(gateway):
    created = "/ajax-api/2.0/mlflow/experiments/create"
    assert gateway(created, {"name": "a"}, Authorization=BASIC, Origin=f"https://{HOST}")[0] == 200
    assert gateway(created, {"name": "b"}, Authorization=BASIC, Origin="https://elsewhere.example")[0] == 403


def test_a_dashboard_is_found_by_its_study_and_asks_for_its_token_itself(gateway):
    status, headers, content = gateway("/ray/digits/api/jobs?limit=2", Authorization="Bearer token")
    seen = json.loads(content)
    assert status == 200
    assert seen["path"] == "/api/jobs?limit=2"
    assert seen["Authorization"] == "Bearer token"
    assert headers["Set-Cookie"].startswith("token=a; Path=/ray/digits/; Secure")
    assert gateway("/ray/digits")[1]["Location"].endswith("/ray/digits/")


@pytest.mark.parametrize("path", ["/ray/a.b/", "/ray/mlflow.other:80%23/", "/ray/../mlflow/", "/ray/-/x", "/ray/"])
def test_no_path_leads_to_anything_else(gateway, path):
    assert gateway(path)[0] == 401, "it is MLflow's, which asks who comes"
