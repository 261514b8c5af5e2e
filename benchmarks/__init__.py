"""tritonbulk side by side with what people use instead; `python -m benchmarks.peers` runs it."""
