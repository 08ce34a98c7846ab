"""The rules of krew for a plugin manifest, and a manifest filled in for a release.

Sources: krew.sigs.k8s.io, developer guide: plugin manifest, naming, best practices; krew 0.4, internal/index/validation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

PLACEHOLDER = "RELEASE_URL"
OPERATING_SYSTEMS, PROCESSORS = ("linux", "darwin", "windows"), ("amd64", "arm64")
_SEMANTIC_VERSION = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")

Manifest = Mapping[str, Any]
Rule = Callable[[str, Manifest], bool]


def _platforms(manifest: Manifest) -> list[Mapping[str, Any]]:
    return list(manifest["spec"]["platforms"])


def _every(check: Callable[[Mapping[str, Any]], bool]) -> Rule:
    return lambda _, manifest: all(check(platform) for platform in _platforms(manifest))


def _selected(platform: Mapping[str, Any]) -> tuple[str | None, str | None]:
    labels = platform["selector"]["matchLabels"]
    return labels.get("os"), labels.get("arch")


def _is_inside(path: str) -> bool:
    return bool(path) and not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts


RULES: dict[str, Rule] = {
    "apiVersion is the one that krew reads": lambda _, m: m["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2",
    "kind is Plugin": lambda _, m: m["kind"] == "Plugin",
    "the file is called as the plugin": lambda name, m: m["metadata"]["name"] == name,
    "the name is safe, lower case and without kubectl": lambda name, _: (
        re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is not None and "kube" not in name
    ),
    "version is semantic with a v before it": lambda _, m: _SEMANTIC_VERSION.fullmatch(m["spec"]["version"]) is not None,
    "homepage is stated": lambda _, m: m["spec"]["homepage"].startswith("https://"),
    "shortDescription is one line of at most 50 characters, without a full stop": lambda _, m: (
        0 < len(m["spec"]["shortDescription"]) <= 50
        and not set("\r\n") & set(m["spec"]["shortDescription"])
        and not m["spec"]["shortDescription"].endswith(".")
    ),
    "shortDescription does not repeat that it is a plugin of kubectl": lambda _, m: (
        not re.search(r"(?i)kubectl|plugin", m["spec"]["shortDescription"])
    ),
    "description and caveats have lines of at most 80 characters, commands excepted": lambda _, m: all(
        len(line) <= 80 or line.startswith("  ")
        for text in (m["spec"]["description"], m["spec"].get("caveats", ""))
        for line in text.splitlines()
    ),
    "there is a platform": lambda _, m: len(_platforms(m)) > 0,
    "no platform is named twice": lambda _, m: len({_selected(p) for p in _platforms(m)}) == len(_platforms(m)),
    "selectors name only known operating systems and processors": _every(
        lambda p: (
            set(p["selector"]["matchLabels"]) == {"os", "arch"} and _selected(p)[0] in OPERATING_SYSTEMS and _selected(p)[1] in PROCESSORS
        )
    ),
    "uri is an archive served by https": _every(lambda p: re.fullmatch(r"https://\S+\.(tar\.gz|zip)", p["uri"]) is not None),
    "uri names the platform": _every(lambda p: all(str(part) in p["uri"] for part in _selected(p))),
    "sha256 has 64 hexadecimal digits": _every(lambda p: re.fullmatch(r"[a-f0-9]{64}", p["sha256"]) is not None),
    "bin is a path inside the archive": _every(lambda p: _is_inside(p["bin"])),
    "files, where stated, are not empty and stay inside": _every(
        lambda p: "files" not in p or (bool(p["files"]) and all(_is_inside(f["from"]) and _is_inside(f["to"]) for f in p["files"]))
    ),
}
"""What krew or its index requires -> whether a manifest of that plugin name has it."""


def broken_rules(name: str, manifest: Manifest) -> list[str]:
    """Return the rules that a manifest breaks; one whose fields are missing or of another type breaks the rules about them."""
    broken = []
    for rule, holds in RULES.items():
        try:
            if holds(name, manifest):
                continue
        except (KeyError, TypeError, AttributeError):
            pass
        broken.append(rule)
    return broken


def released(text: str, url: str, archives: Iterable[Path]) -> str:
    """Return the manifest's text for a release at a URL, with the checksums of the archives and only their platforms.

    Raises ValueError for an archive of a platform that the manifest does not name, or if there is none.
    """
    checksums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in archives}
    manifest = yaml.safe_load(text.replace(PLACEHOLDER, url.rstrip("/")))
    platforms = {platform["uri"].rsplit("/", 1)[1]: platform for platform in manifest["spec"]["platforms"]}
    unknown = sorted(set(checksums) - set(platforms))
    if unknown or not checksums:
        raise ValueError(f"archives {', '.join(unknown) or 'none'}: the manifest names {', '.join(platforms)}")
    manifest["spec"]["platforms"] = [platforms[name] | {"sha256": checksums[name]} for name in platforms if name in checksums]
    return yaml.safe_dump(manifest, sort_keys=False, width=160)
