"""What decisions read of each kind of object, with names as they are or hidden; all else is left out of a journal. Pure.

named_texts        names as they are, or hidden: replaced so that every decision stays the same
kept_names         the names in an object
kept_nodes         nodes, topologies, telemetry and workload classes
kept_requests      the pod of a request
kept_pods          pods that are pending, bound, ended or assumed
kept_dra_objects   objects of resource.k8s.io
object_kinds       OBJECT_KINDS: how each kind is found in a snapshot, written, read, and put back
"""
