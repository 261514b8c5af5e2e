"""Telemetry: what a run tells while it goes on, for machines: metrics, traces and logs."""
