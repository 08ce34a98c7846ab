"""An answerer of token questions for tests: it counts them, and can fail or wait."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from extender.scheduling.ports import ReviewError, TokenUser


@dataclass
class CountingReviews:
    """Knows the tokens `NAME-token`; a user may do what `rights` has for its name. Implements `TokenReviews`."""

    rights: dict[str, set[tuple[str, str]]]
    """User -> (verb, path) pairs."""
    broken: str = ""
    """Why no question is answered; empty: all are."""
    authentications: list[str] = field(default_factory=list)
    authorizations: list[tuple[str, str, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    """Questions wait until it is set."""

    def __post_init__(self) -> None:
        self.gate.set()

    def authenticate(self, token: str) -> TokenUser | None:
        self.gate.wait(10)
        self.authentications.append(token)
        if self.broken:
            raise ReviewError(self.broken)
        name = token.removesuffix("-token")
        return TokenUser(name) if name != token and name in self.rights else None

    def may(self, user: TokenUser, verb: str, path: str) -> bool:
        self.authorizations.append((user.name, verb, path))
        if self.broken:
            raise ReviewError(self.broken)
        return (verb, path) in self.rights[user.name]
