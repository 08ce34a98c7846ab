"""Questions to the API server about the bearer tokens of others: TokenReview and SubjectAccessReview."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from extender.kube.api_requests import ApiRequests
from extender.scheduling.ports import ReviewError, TokenUser
from topology.agent.publisher import ApiError

Status = TypeVar("Status")

_AUTHENTICATION = "/apis/authentication.k8s.io/v1/tokenreviews"
_AUTHORIZATION = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class _User(msgspec.Struct, frozen=True):
    """authentication.k8s.io/v1 UserInfo."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = None
    extra: dict[str, tuple[str, ...]] | None = None


class _TokenStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] | None = None


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False
    denied: bool = False


class KubeTokenReviews:
    """Asks one API server. Implements `extender.scheduling.ports.TokenReviews`."""

    def __init__(self, api: ApiRequests, audiences: tuple[str, ...] = ()) -> None:
        """`audiences`: of which a token must have one; empty: that of the API server."""
        self._api, self._audiences = api, audiences

    def authenticate(self, token: str) -> TokenUser | None:
        """Return the user of a token; None where the API server does not accept it. Raises ReviewError. Blocks."""
        spec: dict[str, Any] = {"token": token}
        if self._audiences:
            spec["audiences"] = list(self._audiences)
        status = self._asked(_AUTHENTICATION, "TokenReview", "authentication.k8s.io/v1", spec, _TokenStatus)
        if not status.authenticated or not status.user.username:
            return None
        if self._audiences and not set(self._audiences) & set(status.audiences or ()):
            return None  # an API server that does not know audiences accepts every token of its own
        user = status.user
        return TokenUser(user.username, user.uid, user.groups or (), user.extra or {})

    def may(self, user: TokenUser, verb: str, path: str) -> bool:
        """Return whether the user may do `verb` on the non-resource URL `path`. Raises ReviewError. Blocks."""
        spec = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
            "nonResourceAttributes": {"verb": verb, "path": path},
        }
        status = self._asked(_AUTHORIZATION, "SubjectAccessReview", "authorization.k8s.io/v1", spec, _AccessStatus)
        return status.allowed and not status.denied

    def _asked(self, path: str, kind: str, version: str, spec: dict[str, Any], status: type[Status]) -> Status:
        try:
            answer = self._api.create(path, {"apiVersion": version, "kind": kind, "spec": spec})
            return msgspec.convert(answer.get("status") or {}, status)
        except ApiError as error:
            remedy = (
                "apply manifests/debug-tokens, which has the right to create it"
                if error.status == 403
                else "try again; see the log if this stays"
            )
            raise ReviewError(f"the API server does not answer a {kind} ({error.status or 'no answer'}): {remedy}") from error
        except msgspec.ValidationError as error:
            raise ReviewError(f"the API server's answer to a {kind} is not understood: {error}") from error
