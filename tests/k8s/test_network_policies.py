"""Who reaches whom is what the page says, and the program that computes it notices what should not be."""

import copy
import re
from pathlib import Path

import pytest
from studies_to_render import CASES

from selftune.kubernetes.reachability import Way, main, table, ways

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
PODS = {"ray-head", "ray-worker", "mlflow", "postgresql", "object-store", "buckets", "gateway"}


def page_tables():
    return re.findall(r"^\| from \| to \| ports \|\n(?:\|.*\n)+", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("number", "case"), enumerate(["gpu-spot", "production"]))
def test_the_page_has_the_table_of_an_overlay(rendered, number, case):
    assert page_tables()[number].rstrip("\n") == table(ways(rendered(*CASES[case])))


def test_named_pods_alone_reach_head_mlflow_database_and_store(manifests):
    found = ways(manifests)
    to = {name: {way.source for way in found if way.target == name} for name in PODS}
    inside = "gateway" in {way.source for way in found}
    assert to["ray-head"] == {"KubeRay's operator", "ray-worker"} | ({"gateway"} if inside else set())
    assert to["ray-worker"] == {"ray-head"}
    assert to["mlflow"] == {"ray-head"} | ({"gateway"} if inside else set())
    assert to["postgresql"] == {"mlflow"}
    assert to["object-store"] == (set() if inside else {"buckets", "mlflow", "ray-head"})
    assert to["gateway"] == ({"anyone"} if inside else set())


def test_nothing_reaches_the_rest_of_the_world(manifests):
    outside = {way.target for way in ways(manifests)} - PODS
    assert "DNS" in outside
    assert not {name for name in outside if name != "DNS" and not name.startswith("the network of ")}


def test_studies_of_one_namespace_reach_nothing_of_each_other(manifests):
    assert not [way for way in ways(manifests) if "another study" in way.source + way.target]


def policy(manifests, name):
    (found,) = (one for one in manifests if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == name)
    return found["spec"]


FAULTS = {
    "a policy that selects too many": lambda found: policy(found, "postgresql")["ingress"][0].pop("from"),
    "another port": lambda found: [
        policy(found, "object-store")["ingress"][0].pop("ports"),
        policy(found, "object-store-clients")["egress"][0].pop("ports"),
    ],
    "a study's pods without its name": lambda found: (
        [
            peer["podSelector"].pop("matchLabels")
            for rule in (
                policy(found, "digits-ray")["ingress"][0]["from"],
                policy(found, "digits-ray")["egress"][0]["to"],
            )
            for peer in rule
        ]
        and policy(found, "digits-ray")["podSelector"].pop("matchLabels")
    ),
    "no denial": lambda found: policy(found, "default-deny").update(policyTypes=["Egress"]),
    "any namespace": lambda found: policy(found, "digits-head")["ingress"][0]["from"][0].update(
        namespaceSelector={}
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_hole_in_the_policies_is_noticed(rendered, name):
    manifests = copy.deepcopy(rendered(*CASES["gpu-spot"]))
    before = table(ways(manifests))
    FAULTS[name](manifests)
    assert table(ways(manifests)) != before


def two_pods(*policies):
    def pod(name):
        labels = {"app.kubernetes.io/component": name}
        ports = [{"containerPort": 80}]
        spec = {"template": {"metadata": {"labels": labels}, "spec": {"containers": [{"ports": ports}]}}}
        return {"kind": "Deployment", "metadata": {"name": name}, "spec": spec}

    def named(number, spec):
        return {
            "kind": "NetworkPolicy",
            "metadata": {"name": str(number), "namespace": "here"},
            "spec": spec,
        }

    return [pod("one"), pod("two"), *(named(*policy) for policy in enumerate(policies))]


ONE, TWO = ({"matchLabels": {"app.kubernetes.io/component": name}} for name in ("one", "two"))
DENIED = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
OUT = {"podSelector": ONE, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": TWO}]}]}
IN = {
    "podSelector": TWO,
    "policyTypes": ["Ingress"],
    "ingress": [{"from": [{"podSelector": ONE}], "ports": [{"port": 80}]}],
}


def test_both_ends_have_to_consent():
    assert ways(two_pods(DENIED, OUT)) == ways(two_pods(DENIED, IN)) == []
    assert ways(two_pods(DENIED, OUT, IN)) == [Way("one", "two", (80,))]


def test_a_pod_that_no_policy_selects_is_open():
    found = ways(two_pods({"podSelector": ONE, "policyTypes": ["Ingress"]}))
    assert Way("anyone", "two", (80, 31000)) in found
    assert Way("one", "elsewhere", ()) in found
    assert not [way for way in found if way.target == "one"]


def test_a_selector_without_a_namespace_means_the_policys_own():
    everybody = {"podSelector": TWO, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}
    found = ways(two_pods(everybody, {"podSelector": ONE, "policyTypes": ["Ingress"]}))
    assert {way.source for way in found if way.target == "two"} == {"one"}


def test_ports_by_name_are_refused():
    named = {**IN, "ingress": [{"ports": [{"port": "http"}]}]}
    with pytest.raises(ValueError, match="single numbers"):
        ways(two_pods(DENIED, named))


def test_the_program_prints_the_table_of_a_file(tmp_path, capsys):
    import yaml

    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(two_pods(DENIED, OUT, IN)))
    assert main([str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["| one | two | 80 |"]


@pytest.mark.parametrize(("text", "words"), [(None, "no such file or directory"), ("hello", "holds no manifests")])
def test_what_is_no_file_of_manifests_is_a_sentence(text, words, tmp_path, capsys):
    file = tmp_path / "manifests.yaml"
    if text is not None:
        file.write_text(text)
    assert main([str(file)]) == 2
    assert capsys.readouterr().err == f"{file}: {words}; give a file that `selftune render` wrote\n"
