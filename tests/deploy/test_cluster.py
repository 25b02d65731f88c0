"""The file of Ray's cluster launcher, as Ray itself reads it."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

ROOT = Path(__file__).parent.parent.parent
CLUSTER = yaml.safe_load((ROOT / "deploy" / "cluster.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def prepared():
    """The file with what Ray adds to it."""
    return prepare_config(CLUSTER)


def test_ray_takes_it(prepared):
    validate_config(prepared)
    assert prepared["max_workers"] == len(CLUSTER["provider"]["worker_ips"]) == 2


def test_the_addresses_are_nobodys():
    addresses = [CLUSTER["provider"]["head_ip"], *CLUSTER["provider"]["worker_ips"]]
    assert all(address.startswith("192.0.2.") for address in addresses)  # kept for examples by RFC 5737


def test_files_are_brought_from_where_they_are():
    for there, here in CLUSTER["file_mounts"].items():
        assert there.startswith("~/")
        assert here.startswith(("~/", "dist/")) or (ROOT / here).is_file(), here


def test_what_is_installed_has_been_brought(prepared):
    text = " ".join(CLUSTER["setup_commands"])
    used = set(re.findall(r"~/selftune-files/\S+", text))
    assert used == {there for there in CLUSTER["file_mounts"] if there.startswith("~/selftune-files/")}
    assert "--require-hashes" in text
    assert prepared["head_setup_commands"] == prepared["worker_setup_commands"] == CLUSTER["setup_commands"]


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_nodes_start_with_options_that_ray_has_and_with_a_token(kind):
    stop, command = CLUSTER[f"{kind}_start_ray_commands"]
    assert stop == "~/selftune/bin/ray stop"
    environment, _, ray = command.partition("ray start ")
    assert "RAY_AUTH_MODE=token" in environment
    assert "PATH=~/selftune/bin:$PATH" in environment
    # The second autoscaler of Ray 2.60 says "Adding 1 node(s)" for ever, and adds none, where machines are given.
    assert ("RAY_enable_autoscaler_v2=0" in environment) == (kind == "head")
    given = start.make_context("ray start", shlex.split(ray)).params
    assert given["head"] == (kind == "head")
    assert given["dashboard_host"] == "127.0.0.1"
    assert "~/.ray/auth_token" in CLUSTER["file_mounts"]
