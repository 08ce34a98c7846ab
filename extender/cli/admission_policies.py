"""Workload classes -> the admission policies that enforce them. Pure.

In governed namespaces (label `fabricwise.dev/governed: "true"`) a pod that requests GPUs must name an existing class, use the GPU
scheduler and have the tolerations of its class. If the API server supports mutating policies, they set the scheduler and tolerations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from extender.decision.request.annotations import PREFIX
from extender.decision.request.workload_classes import Classes, Toleration

GOVERNED = f"{PREFIX}governed"
KEY = f"{PREFIX}workload-class"
NAME = "fabricwise-workload-classes"

_LISTS = "(has(object.spec.initContainers) ? object.spec.initContainers : []) + object.spec.containers"
ASKS_FOR_GPUS = (
    f'({_LISTS}).exists(c, has(c.resources) && has(c.resources.limits) && c.resources.limits.exists(name, name.startsWith("nvidia.com/")))'
)
NAMED = f'(has(object.metadata.annotations) && "{KEY}" in object.metadata.annotations ? object.metadata.annotations["{KEY}"] : "")'


def render(classes: Classes, scheduler: str, mutating_version: str | None = "v1") -> list[dict[str, Any]]:
    """Return the manifests; `mutating_version` is the API version of MutatingAdmissionPolicy, None for only the validating policy."""
    manifests = [_validating(classes, scheduler), _binding("ValidatingAdmissionPolicy", "v1", validationActions=["Deny"])]
    if mutating_version is not None:
        manifests += [_mutating(classes, scheduler, mutating_version), _binding("MutatingAdmissionPolicy", mutating_version)]
    return manifests


def _binding(kind: str, version: str, **more: Any) -> dict[str, Any]:
    governed = {"namespaceSelector": {"matchLabels": {GOVERNED: "true"}}}
    return {
        "apiVersion": f"admissionregistration.k8s.io/{version}",
        "kind": f"{kind}Binding",
        "metadata": {"name": NAME},
        "spec": {"policyName": NAME, "matchResources": governed, **more},
    }


def _policy(kind: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
    created_pods = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    return {
        "apiVersion": f"admissionregistration.k8s.io/{version}",
        "kind": kind,
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": created_pods},
            "matchConditions": [{"name": "asks-for-gpus", "expression": ASKS_FOR_GPUS}],
            "variables": [{"name": "named", "expression": NAMED}],
            **spec,
        },
    }


def _validating(classes: Classes, scheduler: str) -> dict[str, Any]:
    names = sorted(classes)
    validations: list[dict[str, Any]] = [
        {
            "expression": f"variables.named in {json.dumps(names)}",
            "message": f"a pod that requests GPUs must name its workload class in annotation {KEY}: one of {', '.join(names)}",
            "reason": "Forbidden",
        },
        {
            "expression": f"object.spec.schedulerName == {json.dumps(scheduler)}",
            "message": f"a pod that requests GPUs must be scheduled by {scheduler}: set spec.schedulerName",
            "reason": "Forbidden",
        },
    ]
    for toleration, class_names in _by_toleration(classes):
        validations.append(
            {
                "expression": f"!(variables.named in {json.dumps(class_names)}) || {_has_toleration(toleration)}",
                "message": f"pods of class {', '.join(class_names)} must tolerate {_taint(toleration)}",
                "reason": "Forbidden",
            }
        )
    return _policy("ValidatingAdmissionPolicy", "v1", {"validations": validations})


def _mutating(classes: Classes, scheduler: str, version: str) -> dict[str, Any]:
    mutations = [
        {
            "patchType": "JSONPatch",
            "jsonPatch": {
                "expression": '!has(object.spec.schedulerName) || object.spec.schedulerName in ["", "default-scheduler"] ? '
                f'[JSONPatch{{op: "add", path: "/spec/schedulerName", value: {json.dumps(scheduler)}}}] : []'
            },
        }
    ]
    for toleration, class_names in _by_toleration(classes):
        fields = ", ".join(f"{name}: {json.dumps(value)}" for name, value in _fields(toleration).items())
        item = f"Object.spec.tolerations{{{fields}}}"
        mutations.append(
            {
                "patchType": "JSONPatch",
                "jsonPatch": {
                    "expression": f"!(variables.named in {json.dumps(class_names)}) || {_has_toleration(toleration)} ? [] : "
                    "has(object.spec.tolerations) ? "
                    f'[JSONPatch{{op: "add", path: "/spec/tolerations/-", value: {item}}}] : '
                    f'[JSONPatch{{op: "add", path: "/spec/tolerations", value: [{item}]}}]'
                },
            }
        )
    return _policy("MutatingAdmissionPolicy", version, {"reinvocationPolicy": "IfNeeded", "mutations": mutations})


def _by_toleration(classes: Classes) -> Iterable[tuple[Toleration, list[str]]]:
    """Return pairs of (toleration, names of the classes that have it), each toleration once."""
    class_names: dict[Toleration, list[str]] = {}
    for name in sorted(classes):
        for toleration in classes[name].tolerations:
            class_names.setdefault(toleration, []).append(name)
    return class_names.items()


def _fields(toleration: Toleration) -> dict[str, str]:
    parts = {"key": toleration.key, "operator": toleration.operator, "value": toleration.value, "effect": toleration.effect}
    return {name: value for name, value in parts.items() if value}


def _has_toleration(toleration: Toleration) -> str:
    """Return a CEL expression: the pod has the toleration, or a wider one."""
    effect = (
        f'!has(t.effect) || t.effect in ["", {json.dumps(toleration.effect)}]' if toleration.effect else '!has(t.effect) || t.effect == ""'
    )
    wide = f'has(t.operator) && t.operator == "Exists" && (!has(t.key) || t.key in ["", {json.dumps(toleration.key)}])'
    equal = f"has(t.key) && t.key == {json.dumps(toleration.key)} && has(t.value) && t.value == {json.dumps(toleration.value)}"
    same = f"({wide})" if toleration.operator == "Exists" else f"(({wide}) || ({equal}))"
    return f"(has(object.spec.tolerations) && object.spec.tolerations.exists(t, ({effect}) && {same}))"


def _taint(toleration: Toleration) -> str:
    value = f"={toleration.value}" if toleration.operator == "Equal" else ""
    return f"taint {toleration.key}{value}{':' + toleration.effect if toleration.effect else ''}"
