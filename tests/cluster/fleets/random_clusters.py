"""Random nodes and pods that exercise every filter of kube-scheduler that Fabricwise repeats."""

from __future__ import annotations

import random
from typing import Any

ZONES = ("a", "b", "c")
APPS = ("web", "db", "llm")
TAINTS = (
    {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
    {"key": "team", "value": "red", "effect": "NoSchedule"},
    {"key": "team", "value": "blue", "effect": "NoExecute"},
    {"key": "slow", "effect": "PreferNoSchedule"},
    {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"},
)
TOLERATIONS = (
    {"key": "nvidia.com/gpu", "operator": "Exists"},
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"},
    {"key": "team", "value": "red", "effect": "NoSchedule"},
    {"key": "team", "operator": "Equal", "value": "blue"},
    {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
    {"operator": "Exists", "effect": "NoSchedule"},
    {"operator": "Exists"},
)


class Generator:
    """Random manifests; two generators with the same seed give the same manifests."""

    def __init__(self, seed: int, prefix: str) -> None:
        self.random, self.prefix = random.Random(seed), prefix

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def node(self, number: int) -> dict[str, Any]:
        """A node with labels, taints and amounts."""
        dice, name = self.random, f"{self.prefix}-n{number}"
        labels = {"kubernetes.io/hostname": name, "cores": dice.choice(("8", "16", "many", "007"))}
        if self.chance(0.85):
            labels["zone"] = dice.choice(ZONES)
        if self.chance(0.5):
            labels["disk"] = dice.choice(("ssd", "hdd"))
        amounts = {
            "cpu": dice.choice(("2", "3500m", "16")),
            "memory": dice.choice(("4Gi", "6G", "64Gi")),
            "pods": dice.choice(("2", "4", "110")),
            "ephemeral-storage": dice.choice(("1Gi", "100Gi")),
            "nvidia.com/gpu": dice.choice(("0", "2", "8")),
        }
        if self.chance(0.3):
            amounts |= {"hugepages-2Mi": "64Mi", "example.com/fpga": "1"}
        spec: dict[str, Any] = {"unschedulable": True} if self.chance(0.1) else {}
        spec["taints"] = dice.sample(TAINTS, dice.choice((0, 0, 0, 1, 2)))
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
            "status": {"capacity": amounts, "allocatable": amounts},
        }

    def pod(self, name: str, scheduler: str, node: str | None = None) -> dict[str, Any]:
        """A pod with some of everything; bound to `node` where one is given."""
        dice = self.random
        spec: dict[str, Any] = {
            "schedulerName": scheduler,
            "containers": [self._container(f"c{place}", node is None) for place in range(dice.choice((1, 1, 2)))],
        }
        if self.chance(0.25):
            spec["initContainers"] = [self._init(f"i{place}") for place in range(dice.choice((1, 2)))]
        if self.chance(0.1):
            spec["resources"] = dice.choice(
                ({"requests": {"cpu": "3", "memory": "5Gi"}}, {"limits": {"cpu": "3"}}, {"limits": {"memory": "5Gi"}})
            )
            for container in [*spec["containers"], *spec.get("initContainers", [])]:
                container.pop("resources", None)
        if self.chance(0.15):
            spec["hostNetwork"] = True
            for container in [*spec["containers"], *spec.get("initContainers", [])]:
                for port in container.get("ports", ()):
                    port.pop("hostPort", None)
        labels = {"app": dice.choice(APPS), "version": dice.choice(("1", "2"))}
        if node is not None:
            spec["nodeName"] = node
        else:
            self._constrain(spec)
        affinity = {**self._pods_affinity("podAffinity", 0.12, node is None), **self._pods_affinity("podAntiAffinity", 0.15, node is None)}
        if affinity:
            spec.setdefault("affinity", {}).update(affinity)
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": dice.choice(("default", "default", "kube-public")), "labels": labels},
            "spec": spec,
        }

    def _constrain(self, spec: dict[str, Any]) -> None:
        dice = self.random
        if self.chance(0.6):
            spec["tolerations"] = dice.sample(TOLERATIONS, dice.choice((1, 2, 3)))
        if self.chance(0.2):
            spec["nodeSelector"] = dice.choice(({"disk": "ssd"}, {"zone": "a"}, {"zone": "b", "disk": "hdd"}))
        if self.chance(0.3):
            terms = [self._node_term() for _ in range(dice.choice((1, 2)))]
            spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
        if self.chance(0.25):
            spec["topologySpreadConstraints"] = [self._spread() for _ in range(dice.choice((1, 1, 2)))]
            seen: set[tuple[str, str]] = set()
            spec["topologySpreadConstraints"] = [
                one
                for one in spec["topologySpreadConstraints"]
                if (key := (one["topologyKey"], one["whenUnsatisfiable"])) not in seen and not seen.add(key)  # type: ignore[func-returns-value]
            ]

    def _container(self, name: str, large: bool) -> dict[str, Any]:
        dice = self.random
        container: dict[str, Any] = {"name": name, "image": "none"}
        requests, limits = dict[str, str](), dict[str, str]()
        if self.chance(0.6):
            requests["cpu"] = dice.choice(("100m", "0.5", "1", "2500m") if large else ("100m", "500m"))
        if self.chance(0.5):
            requests["memory"] = dice.choice(("100Mi", "1Gi", "5G") if large else ("100Mi", "900M"))
        if self.chance(0.2):
            limits["memory"] = dice.choice(("6Gi", "8G"))
        if self.chance(0.15):
            requests["ephemeral-storage"] = dice.choice(("500Mi", "2Gi"))
        if self.chance(0.3):
            limits["nvidia.com/gpu"] = dice.choice(("0", "1", "2", "4"))
        if self.chance(0.06):
            limits["example.com/fpga"] = "1"
        if self.chance(0.06):
            limits |= {"hugepages-2Mi": "32Mi"}
            requests["cpu"] = "100m"
        if requests or limits:
            container["resources"] = {key: value for key, value in (("requests", requests), ("limits", limits)) if value}
        if self.chance(0.2):
            port: dict[str, Any] = {"containerPort": dice.choice((80, 81)), "protocol": dice.choice(("TCP", "UDP"))}
            if self.chance(0.8):
                port |= {"hostPort": port["containerPort"]}
                if self.chance(0.5):
                    port["hostIP"] = dice.choice(("127.0.0.1", "10.0.0.1"))
            container["ports"] = [port]
        return container

    def _init(self, name: str) -> dict[str, Any]:
        container = self._container(name, True)
        if self.chance(0.5):
            container["restartPolicy"] = "Always"
        return container

    def _node_term(self) -> dict[str, Any]:
        dice = self.random
        choices = (
            {"key": "zone", "operator": "In", "values": dice.sample(ZONES, 2)},
            {"key": "zone", "operator": "NotIn", "values": ["a"]},
            {"key": "disk", "operator": "Exists"},
            {"key": "disk", "operator": "DoesNotExist"},
            {"key": "cores", "operator": "Gt", "values": ["8"]},
            {"key": "cores", "operator": "Lt", "values": ["10"]},
        )
        term: dict[str, Any] = {}
        if self.chance(0.85):
            term["matchExpressions"] = dice.sample(choices, dice.choice((1, 2)))
        if self.chance(0.15):
            names = [f"{self.prefix}-n{dice.randrange(12)}"]
            term["matchFields"] = [{"key": "metadata.name", "operator": dice.choice(("In", "NotIn")), "values": names}]
        return term

    def _selector(self) -> dict[str, Any]:
        dice = self.random
        return dice.choice(
            (
                {"matchLabels": {"app": dice.choice(APPS)}},
                {"matchExpressions": [{"key": "version", "operator": "NotIn", "values": ["1"]}]},
                {"matchLabels": {"version": "2"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "llm"]}]},
                {},
            )
        )

    def _spread(self) -> dict[str, Any]:
        dice = self.random
        found: dict[str, Any] = {
            "maxSkew": dice.choice((1, 2)),
            "topologyKey": dice.choice(("zone", "zone", "kubernetes.io/hostname", "disk")),
            "whenUnsatisfiable": dice.choice(("DoNotSchedule", "DoNotSchedule", "ScheduleAnyway")),
            "labelSelector": self._selector(),
        }
        if self.chance(0.2) and found["whenUnsatisfiable"] == "DoNotSchedule":
            found["minDomains"] = dice.choice((2, 4))
        if self.chance(0.3):
            found["nodeAffinityPolicy"] = dice.choice(("Honor", "Ignore"))
        if self.chance(0.3):
            found["nodeTaintsPolicy"] = dice.choice(("Honor", "Ignore"))
        if self.chance(0.2) and "version" not in str(found["labelSelector"]):
            found["matchLabelKeys"] = ["version"]
        return found

    def _pods_affinity(self, kind: str, probability: float, anywhere: bool) -> dict[str, Any]:
        if not self.chance(probability):
            return {}
        dice = self.random
        term: dict[str, Any] = {"topologyKey": dice.choice(("zone", "kubernetes.io/hostname", "disk")), "labelSelector": self._selector()}
        if self.chance(0.3):
            term["namespaces"] = dice.choice((["default"], ["kube-public"], ["default", "kube-public"]))
        elif anywhere and self.chance(0.2):
            term["namespaceSelector"] = {}
        if self.chance(0.2) and "version" not in str(term["labelSelector"]):
            term[dice.choice(("matchLabelKeys", "mismatchLabelKeys"))] = ["version"]
        return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
