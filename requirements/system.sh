#!/usr/bin/env bash
# Install what some tests need from Debian's packages: strace, FUSE, and a browser for the reports.
# Where that cannot be done, say so and go on: those tests are skipped by name.
set -uo pipefail

missing=()
command -v strace >/dev/null || missing+=(strace)
ldconfig -p 2>/dev/null | grep -q 'libfuse3\.so' || missing+=(fuse3)
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
[ ${#missing[@]} -eq 0 ] && exit 0

say() { printf 'system: %s\n' "$*" >&2; }
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  say "not installed, so tests that need them are skipped: ${missing[*]} (Debian, Ubuntu: apt install ${missing[*]})"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
get() { apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1; }
if get "${missing[@]}" || { apt-get update >/dev/null 2>&1 && get "${missing[@]}"; }; then
  say "installed ${missing[*]}"
  exit 0
fi
# One that this system does not know must not keep the others away.
for package in "${missing[@]}"; do
  get "$package" || say "could not be installed, so tests that need it are skipped: $package"
done
