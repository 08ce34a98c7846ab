"""The names in an object as a `Naming` has them: of nodes, pods, namespaces and claims."""

from __future__ import annotations

from extender.decision.replay.kept_objects.named_texts import Names, Naming
from extender.decision.request.kubernetes_objects import Meta, Owner

HIDDEN_TEXT = "hidden"
"""Stands for a text for people where names are hidden."""


def kept_name(kind: Names, text: str | None, naming: Naming) -> str | None:
    """Return a name; None and the empty text as they are."""
    return naming.name(kind, text) if text else text


def kept_namespace(text: str | None, naming: Naming) -> str:
    """Return a namespace. With hidden names the absent one is `default` too, because both mean the same."""
    return naming.name(Names.NAMESPACE, text or "default") if naming.is_hidden else text or ""


def claim_key(text: str, naming: Naming) -> str:
    """Return namespace/name of a claim."""
    namespace, slash, name = text.rpartition("/")
    return f"{naming.name(Names.NAMESPACE, namespace)}/{naming.name(Names.CLAIM, name)}" if slash else naming.name(Names.CLAIM, name)


def kept_meta(meta: Meta, kind: Names | None, naming: Naming) -> Meta:
    """Return the metadata of an object of resource.k8s.io. `kind`: what its name names; None: it is no name of a user's choice."""
    namespace = naming.name(Names.NAMESPACE, meta.namespace) if meta.namespace else ""
    owners = [
        Owner(owner.kind, naming.name(Names.POD, owner.name), naming.name(Names.KEY, owner.uid))
        for owner in meta.owner_references or ()
        if owner.kind == "Pod" and owner.uid
    ]
    return Meta(
        name=meta.name if kind is None else naming.name(kind, meta.name),
        namespace=namespace,
        creation_timestamp=meta.creation_timestamp,
        owner_references=owners or None,
    )
