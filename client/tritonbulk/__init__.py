"""tritonbulk: score a very large file with a model on NVIDIA Triton, fast, once, correctly."""
