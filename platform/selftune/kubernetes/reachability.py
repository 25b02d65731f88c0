"""Who can reach whom by the network policies of manifests: ``python -m selftune.kubernetes.reachability FILE``.

The policies are read as Kubernetes reads them: a pod that none selects for a direction may do everything in it,
any other only what one of its policies lets it do, and a connection needs the consent of both its ends.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from selftune.kubernetes.pods import Manifest, pod_templates
from selftune.kubernetes.selectors import selects

COMPONENT = "app.kubernetes.io/component"
_INSTANCE = "app.kubernetes.io/instance"
_NAMESPACE = "kubernetes.io/metadata.name"
_ANY = 31000  # a port that nothing declares
_DNS = 53
_OTHER = "another-study"


@dataclass(frozen=True)
class Party:
    """One end of a connection.

    Args:
        name: to say.
        namespace: of a pod; empty for what is outside of the cluster.
        labels: of a pod.
        address: of what is outside.
        ports: that it listens on.
    """

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    ports: tuple[int, ...] = ()


_ELSEWHERE = Party("elsewhere", address="198.18.0.1")  # set aside for benchmarks: no network that anybody names


@dataclass(frozen=True)
class Way:
    """A connection that is let through: who, to whom, and on which ports; none means all of them."""

    source: str
    target: str
    ports: tuple[int, ...]


def ways(manifests: Sequence[Manifest]) -> list[Way]:
    """Every connection between different parties that the manifests' policies let through.

    Parties are the pods of the manifests, those of another study, of another namespace, KubeRay's operator, the
    cluster's DNS, each network that a policy names, and an address that none names.
    """
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    namespace = policies[0]["metadata"]["namespace"]
    parties = [*_parties(manifests, policies)]
    found: set[Way] = set()
    for target in parties:
        opened = _ports(_ELSEWHERE, target, policies) if target.namespace == namespace else ()
        if opened:  # one line in place of one for everybody
            found.add(Way("anyone", target.name, opened))
        for source in parties:
            if source is target or not _is_told(source, target, namespace):
                continue
            ports = _ports(source, target, policies)
            if ports and not (source.namespace != namespace and {*ports} <= {*opened}):
                every = ports == (*target.ports, _ANY)
                found.add(Way(source.name, target.name, () if every else ports))
    return sorted(found, key=lambda way: (way.target, way.source, way.ports))


def _ports(source: Party, target: Party, policies: Sequence[Manifest]) -> tuple[int, ...]:
    """Ports that a target listens on, and one that it does not, on which a source reaches it."""
    return tuple(port for port in (*target.ports, _ANY) if _passes(source, target, port, policies))


def table(found: Iterable[Way]) -> str:
    """The connections as a table in Markdown."""
    lines = ["| from | to | ports |", "| --- | --- | --- |"]
    lines += [f"| {one.source} | {one.target} | {', '.join(map(str, one.ports)) or 'all'} |" for one in found]
    return "\n".join(lines)


def _parties(manifests: Sequence[Manifest], policies: Sequence[Manifest]) -> Iterator[Party]:
    namespace = policies[0]["metadata"]["namespace"]
    seen: dict[str, Party] = {}
    for _, template in pod_templates(manifests):
        labels = template["metadata"]["labels"]
        ports = [port for one in template["spec"]["containers"] for port in one.get("ports", ())]
        numbers = tuple(sorted(port["containerPort"] for port in ports))
        seen[labels[COMPONENT]] = Party(labels[COMPONENT], namespace, labels, ports=numbers)
    yield from seen.values()
    for one in [*seen.values()]:
        if _INSTANCE in one.labels:
            labels = {**one.labels, _INSTANCE: _OTHER}
            yield Party(f"{one.name} of another study", namespace, labels, ports=one.ports)
    operator = {COMPONENT: "kuberay-operator"}
    yield Party("KubeRay's operator", _operators_namespace(policies), operator, ports=(8080,))
    yield Party("DNS", "kube-system", {"k8s-app": "kube-dns"}, ports=(_DNS,))
    for labels in [{}, operator, *(one.labels for one in seen.values())]:  # a pod there may call itself anything
        yield Party("another namespace", "another-namespace", labels)
    for name, network in _networks(policies):
        first = ipaddress.ip_network(network)[0]
        yield Party(f"{name} ({network})", address=str(first), ports=(443, 6443))
    yield _ELSEWHERE


def _operators_namespace(policies: Sequence[Manifest]) -> str:
    for policy in policies:
        for rule in policy["spec"].get("ingress") or ():
            for peer in rule.get("from") or ():
                labels = (peer.get("podSelector") or {}).get("matchLabels") or {}
                where = (peer.get("namespaceSelector") or {}).get("matchLabels") or {}
                if labels.get(COMPONENT) == "kuberay-operator" and _NAMESPACE in where:
                    return str(where[_NAMESPACE])
    return "kuberay-system"


def _networks(policies: Sequence[Manifest]) -> Iterator[tuple[str, str]]:
    for policy in policies:
        for rule in policy["spec"].get("egress") or ():
            for peer in rule.get("to") or ():
                if "ipBlock" in peer:
                    yield f"the network of {policy['metadata']['name']}", peer["ipBlock"]["cidr"]


def _is_told(source: Party, target: Party, namespace: str) -> bool:
    """Outside of the namespace nothing is known; what another study's pods do else, its own manifests say."""
    if _OTHER in source.labels.values() or _OTHER in target.labels.values():
        other = target if _OTHER in source.labels.values() else source
        return _INSTANCE in other.labels and other.namespace == namespace and _OTHER not in other.labels.values()
    return namespace in (source.namespace, target.namespace)


def _passes(source: Party, target: Party, port: int, policies: Sequence[Manifest]) -> bool:
    return _consents(source, target, port, policies, "Egress") and _consents(
        target, source, port, policies, "Ingress"
    )


def _consents(who: Party, other: Party, port: int, policies: Sequence[Manifest], direction: str) -> bool:
    """Whether one end of a connection may have it."""
    own = [policy["spec"] for policy in policies if _governs(policy, who, direction)]
    if not own:
        return True
    rules, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        _opens(rule, port) and (not rule.get(peers) or any(_is_peer(peer, other, who) for peer in rule[peers]))
        for spec in own
        for rule in spec.get(rules) or ()
    )


def _governs(policy: Manifest, who: Party, direction: str) -> bool:
    spec = policy["spec"]
    same = bool(who.namespace) and policy["metadata"]["namespace"] == who.namespace
    return same and direction in spec["policyTypes"] and selects(spec["podSelector"], who.labels)


def _opens(rule: Mapping[str, Any], port: int) -> bool:
    ports = rule.get("ports") or ()
    if any(not isinstance(one.get("port"), int) or "endPort" in one for one in ports):
        raise ValueError(f"a policy's ports must be single numbers, got {ports}")
    return not ports or any(port == one["port"] for one in ports)


def _is_peer(peer: Mapping[str, Any], other: Party, who: Party) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ipaddress.ip_address(other.address) if other.address else None
        inside = address is not None and address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(net) for net in block.get("except") or ())
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {_NAMESPACE: other.namespace}):
            return False
    elif other.namespace != who.namespace:
        return False
    return selects(peer.get("podSelector") or {}, other.labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table of a file of manifests; the status is 2 if that is none."""
    parser = argparse.ArgumentParser(prog="python -m selftune.kubernetes.reachability", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="what `selftune render` wrote")
    file: Path = parser.parse_args(arguments).file
    try:
        manifests = [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]
        print(table(ways(manifests)))
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "holds no manifests"
        print(f"{file}: {reason.lower()}; give a file that `selftune render` wrote", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
