"""Fuzzes one of our parsers with atheris.

python -m tests.hostile.fuzz PARSER SECONDS CORPUS FOUND/
"""

import sys

import atheris

with atheris.instrument_imports(include=["tritonbulk"]):
    from tests.hostile.parsers import parse


def main() -> None:
    """Fuzz until the time is over, or something is found."""
    name, seconds, corpus, found = sys.argv[1:]
    # What is found goes into its folder, not into the one where this was started.
    flags = [f"-max_total_time={seconds}", "-max_len=65536", "-rss_limit_mb=3000", "-timeout=60"]
    flags.append(f"-artifact_prefix={found}")
    atheris.Setup([sys.argv[0], *flags, corpus], lambda data: parse(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
