"""Stores: where a job's objects stand; one protocol, one conformance suite."""
