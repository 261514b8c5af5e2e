#!/usr/bin/env bash
# Install what some tests need from Debian's packages: strace and FUSE. Where that cannot be done,
# say so and go on: those tests are skipped by name.
set -uo pipefail

missing=()
command -v strace >/dev/null || missing+=(strace)
ldconfig -p 2>/dev/null | grep -q 'libfuse3\.so' || missing+=(fuse3)
[ ${#missing[@]} -eq 0 ] && exit 0

say() { printf 'system: %s\n' "$*" >&2; }
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  say "not installed, so tests that need them are skipped: ${missing[*]} (Debian, Ubuntu: apt install ${missing[*]})"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if { apt-get install -y --no-install-recommends "${missing[@]}" ||
  { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }; } >/dev/null 2>&1; then
  say "installed ${missing[*]}"
else
  say "could not be installed, so tests that need them are skipped: ${missing[*]}"
fi
