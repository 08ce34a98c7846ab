"""Creating and deleting DeviceTaintRules, by whichever version of resource.k8s.io the API server serves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from extender.kube.api_requests import ApiRequests
from topology.agent.publisher import ApiError

log = logging.getLogger("fabricwise.health")

VERSIONS = ("v1", "v1beta2")


class DeviceTaintRules:
    """Writes rules. A failure is logged once per reason; the caller tries again later."""

    def __init__(self, api: ApiRequests) -> None:
        self._api = api
        self._logged: set[str] = set()

    def create(self, manifest: dict[str, Any]) -> bool:
        """Create a rule, given without apiVersion. Return whether it exists now."""
        return self._by_version(
            lambda path, version: self._api.create(path, {"apiVersion": f"resource.k8s.io/{version}", **manifest}), accepted=409
        )

    def delete(self, name: str) -> bool:
        """Delete a rule. Return whether it is gone now."""
        return self._by_version(lambda path, _: self._api.delete(f"{path}/{name}"))

    def _by_version(self, send: Callable[[str, str], object], accepted: int = 0) -> bool:
        for version in VERSIONS:
            try:
                send(f"/apis/resource.k8s.io/{version}/devicetaintrules", version)
                return True
            except ApiError as error:
                if error.status == accepted:
                    return True
                if error.status != 404:
                    self._log_once(f"DeviceTaintRules cannot be written: {error}; apply manifests/device-taints, or turn this off")
                    return False
        self._log_once("the API server serves no DeviceTaintRules: feature gate DRADeviceTaintRules, on from Kubernetes 1.37")
        return False

    def _log_once(self, why: str) -> None:
        if why not in self._logged and len(self._logged) < 100:
            self._logged.add(why)
            log.warning("%s", why)
