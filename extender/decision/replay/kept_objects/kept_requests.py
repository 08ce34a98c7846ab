"""What a decision reads of the pod of a request, with names as a `Naming` has them. All else is left out of a journal, always.

No environment value, argument, annotation or resource is kept that no decision reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import structs

from extender.decision.replay.kept_objects.kept_names import HIDDEN_TEXT, kept_name, kept_namespace
from extender.decision.replay.kept_objects.named_texts import Names, Naming
from extender.decision.request.annotations import ANNOTATIONS, PREFIX, Annotation
from extender.decision.request.kubernetes_objects import (
    Container,
    EnvVar,
    Meta,
    Pod,
    PodExtendedResourceClaimStatus,
    PodResourceClaim,
    PodResourceClaimStatus,
    PodSchedulingGroup,
    PodSpec,
    PodStatus,
)
from extender.workload.serving.inference import CommandLine, needed_words
from extender.workload.serving.serving_engines import ENGINES


def kept_pod(pod: Pod, naming: Naming) -> Pod:
    """Return the pod of a request as decisions read it."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    namespace = kept_namespace(meta.namespace, naming)
    group = spec.scheduling_group.pod_group_name if spec.scheduling_group else None
    has_model = PREFIX + "model" in (meta.annotations or {})
    return Pod(
        metadata=Meta(
            name=naming.name(Names.POD, meta.name),
            namespace=namespace,
            uid=naming.name(Names.KEY, pod.key) if naming.is_hidden else meta.uid,
            annotations=_annotations(meta.annotations, naming),
            creation_timestamp=meta.creation_timestamp,
        ),
        spec=PodSpec(
            containers=_containers(spec.containers, naming, has_model),
            init_containers=_containers(spec.init_containers, naming, has_model),
            node_name=None,
            scheduler_name=spec.scheduler_name,
            priority=spec.priority,
            resource_claims=[_claim_entry(entry, naming) for entry in spec.resource_claims] if spec.resource_claims is not None else None,
            scheduling_group=PodSchedulingGroup(naming.name(Names.GROUP, group)) if group else None,
        ),
        status=_pod_status(status, naming) if status is not None else None,
    )


def _pod_status(status: PodStatus, naming: Naming) -> PodStatus:
    claims, extended = status.resource_claim_statuses, status.extended_resource_claim_status
    return PodStatus(
        nominated_node_name=kept_name(Names.NODE, status.nominated_node_name, naming),
        resource_claim_statuses=None
        if claims is None
        else [PodResourceClaimStatus(each.name, kept_name(Names.CLAIM, each.resource_claim_name, naming)) for each in claims],
        extended_resource_claim_status=PodExtendedResourceClaimStatus(naming.name(Names.CLAIM, extended.resource_claim_name))
        if extended is not None and extended.resource_claim_name
        else None,
    )


def _claim_entry(entry: PodResourceClaim, naming: Naming) -> PodResourceClaim:
    return PodResourceClaim(
        entry.name,
        kept_name(Names.CLAIM, entry.resource_claim_name, naming),
        kept_name(Names.CLAIM, entry.resource_claim_template_name, naming),
    )


def _annotations(annotations: Mapping[str, str] | None, naming: Naming) -> dict[str, str] | None:
    """Return the annotations that requests are made by."""
    kept = {row.key: _annotation(row, annotations[row.key], naming) for row in ANNOTATIONS if row.key in annotations} if annotations else {}
    return kept or None


def _annotation(row: Annotation, text: str, naming: Naming) -> str:
    """Return the text of an annotation. With hidden names a malformed one is replaced, and the name of a model is left out."""
    if not naming.is_hidden:
        return text
    try:
        row.read(text)
        if row.field != "model":
            return text
        described = msgspec.json.decode(text)
        return msgspec.json.encode({field: value for field, value in described.items() if field != "name"}).decode()
    except (ValueError, ArithmeticError):
        return "?"


def _containers(containers: list[Container] | None, naming: Naming, has_model: bool) -> list[Container] | None:
    if containers is None:
        return None
    return [_container(container, number, naming, has_model) for number, container in enumerate(containers)]


def _container(container: Container, number: int, naming: Naming, has_model: bool) -> Container:
    """Return a container. `has_model`: whether an annotation describes the pod's model; else decisions read no command line."""
    name = f"c{number}" if naming.is_hidden else container.name
    kept = Container(name=name, resources=container.resources, restart_policy=container.restart_policy)
    if naming.is_hidden and not has_model:
        return kept
    environment = {variable.name: variable.value for variable in container.env or () if variable.value is not None}
    words = (*(container.command or ()), *(container.args or ()))
    needed, values = needed_words(CommandLine(container.name or "?", container.image or "", words, environment, 0))
    image = container.image
    if naming.is_hidden:
        needed = tuple(_without_model(word) for word in needed)
        values = {name: value for name, value in values.items() if _is_harmless(value)}
        image = next((mark for engine in ENGINES for mark in engine.marks if mark in (image or "").lower()), None)
    variables = [EnvVar(name, value) for name, value in sorted(values.items())]
    return structs.replace(kept, image=image, args=list(needed) or None, env=variables or None)


_HARMLESS = re.compile(r"[A-Za-z0-9_.,+-]{0,24}")


def _is_harmless(text: str) -> bool:
    return _HARMLESS.fullmatch(text) is not None


def _without_model(word: str) -> str:
    """Return a word of a command line; one that may be a name, a path or an address is left out, except for engines' own words."""
    flag, equals, value = word.partition("=")
    marks = {mark for engine in ENGINES for mark in engine.marks} | {engine.positional_after for engine in ENGINES}
    if word.rsplit("/", 1)[-1] in marks:
        return word.rsplit("/", 1)[-1]
    if flag.startswith("-"):
        return word if not equals or _is_harmless(value) else f"{flag}={HIDDEN_TEXT}"
    return word if _is_harmless(word) else HIDDEN_TEXT
