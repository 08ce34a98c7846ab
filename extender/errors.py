"""Errors that reach a user. Each carries one sentence saying what is wrong and where."""

from __future__ import annotations


class FabricwiseError(Exception):
    """Base of every error the command line prints as one line."""


class SettingsError(FabricwiseError):
    """A settings file that cannot be used; names the key."""


class ClusterSourceError(FabricwiseError):
    """Cluster state that cannot be had: a bad dump, an API server that refuses."""


class RequestError(FabricwiseError):
    """A request body that cannot be used; becomes the verb's `Error`, or a 400 on the debug API."""
