#!/usr/bin/env bash
# Fetch NVIDIA's perf_analyzer into a folder and print the path of a command that starts it.
#
#   benchmarks/perf_analyzer.sh FOLDER
#
# The second call finds everything in place. Linux on x86-64 only; no root, and nothing of the system
# is changed. If it cannot be had, the last line on stderr says why and the exit code is not 0.
#
# The binary wants glibc 2.38. On an older Debian or Ubuntu the C library of the next release, with the
# few libraries that the binary links, is unpacked beside it (apt-get with a configuration of its own,
# from the archive that the system's apt uses, signatures checked) and used for this one program.
set -euo pipefail
umask 022

# Pinned: without a version pip may choose 0.1.0, which is an empty placeholder.
VERSION=2.60.0
SHA256=23ef56b107ae9233e5cf09fbdf508dd9b936a52f1bae2f63f53c8117087b3f25
GLIBC_MIN=2.38
PACKAGES=(libc6 libstdc++6 libgcc-s1 libssl3t64 zlib1g libzstd1)

die() { printf 'perf_analyzer.sh: %s\n' "$*" >&2; exit 1; }
is_older() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

[ $# -eq 1 ] || die "give one argument, the folder to put it into"
[ "$(uname -sm)" = "Linux x86_64" ] || die "there is no build for $(uname -sm)"
mkdir -p "$1"
folder=$(cd "$1" && pwd -P)
command=$folder/perf_analyzer
binary=$folder/wheel-$VERSION/perf_analyzer/bin/perf_analyzer
libraries=$folder/libraries/usr/lib/x86_64-linux-gnu
glibc=$(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2)
if [ -x "$command" ]; then
  echo "$command"
  exit
fi
exec 9> "$folder/.lock"
flock -w 300 9 || die "somebody else has been fetching it for 300 s"

scratch=$(mktemp -d "$folder/scratch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

fetch_wheel() {
  local python=${PYTHON:-$(dirname "$0")/../.venv/bin/python}
  printf 'perf-analyzer==%s --hash=sha256:%s\n' "$VERSION" "$SHA256" > "$scratch/wheel.txt"
  local foreign=(--no-deps --only-binary=:all: --platform manylinux_2_38_x86_64)
  if "$python" -m pip --version > /dev/null 2>&1; then
    timeout 120 "$python" -m pip download --quiet --disable-pip-version-check --require-hashes \
      "${foreign[@]}" --python-version 3.11 --implementation cp --dest "$scratch" \
      --requirement "$scratch/wheel.txt" >&2 || die "pip cannot fetch perf-analyzer $VERSION"
    "$python" -m zipfile -e "$scratch"/perf_analyzer-*.whl "$scratch/wheel"
  else
    timeout 120 uv pip install --quiet --no-deps --no-build --require-hashes \
      --python-platform x86_64-manylinux_2_39 --python "$python" --target "$scratch/wheel" \
      --requirement "$scratch/wheel.txt" >&2 || die "neither pip nor uv can fetch perf-analyzer $VERSION"
  fi
  chmod +x "$scratch/wheel/perf_analyzer/bin/perf_analyzer"
  rm -rf "${binary%/perf_analyzer/bin/perf_analyzer}"
  mv "$scratch/wheel" "${binary%/perf_analyzer/bin/perf_analyzer}"
}

fetch_libraries() {
  local system suite archive keys package
  command -v apt-get dpkg-deb > /dev/null || die "it needs glibc $GLIBC_MIN, this system has $glibc"
  system=$(. /etc/os-release && echo "$ID")
  case $system in
    debian) suite=trixie ;;
    ubuntu) suite=noble ;;
    *) die "it needs glibc $GLIBC_MIN, this system has $glibc" ;;
  esac
  archive=$(apt-get --print-uris update 2> /dev/null |
    sed -n "s#^'\(.*\)/dists/[^/-]*/InRelease'.*#\1#p" | head -n 1)
  [ -n "$archive" ] || die "apt-get does not say which archive it uses"
  keys=/usr/share/keyrings/$system-archive-keyring
  for keys in "$keys.gpg" "$keys.pgp" ""; do [ -r "$keys" ] && break; done
  [ -n "$keys" ] || die "the archive's keys are not installed"

  mkdir -p "$scratch"/apt/{state/lists/partial,cache/archives/partial,none} "$scratch"/{debs,unpacked}
  : > "$scratch/apt/status"
  echo "deb [arch=amd64 signed-by=$keys] $archive $suite main" > "$scratch/apt/sources.list"
  cat > "$scratch/apt/apt.conf" <<END
Dir::State "$scratch/apt/state";
Dir::State::status "$scratch/apt/status";
Dir::Cache "$scratch/apt/cache";
Dir::Etc::sourcelist "$scratch/apt/sources.list";
Dir::Etc::sourceparts "$scratch/apt/none";
Dir::Etc::preferences "$scratch/apt/no-preferences";
Dir::Etc::preferencesparts "$scratch/apt/none";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
END
  export APT_CONFIG=$scratch/apt/apt.conf
  timeout 120 apt-get -qq update >&2 || die "apt-get cannot read $suite"
  (cd "$scratch/debs" && timeout 120 apt-get -qq download "${PACKAGES[@]}" >&2) ||
    die "apt-get cannot fetch the libraries of $suite"
  for package in "$scratch"/debs/*.deb; do dpkg-deb -x "$package" "$scratch/unpacked"; done
  rm -rf "$folder/libraries"
  mv "$scratch/unpacked" "$folder/libraries"
}

[ -x "$binary" ] || fetch_wheel
start=("$binary")
if is_older "$glibc" "$GLIBC_MIN"; then
  loader=$libraries/ld-linux-x86-64.so.2
  [ -e "$loader" ] || fetch_libraries
  [ -e "$loader" ] || die "the fetched C library has no loader"
  start=("$loader" --library-path "$libraries" "$binary")
fi
# Whoever starts it may have the embedded server's libraries on the path.
{
  echo '#!/bin/sh'
  printf 'exec env -u LD_LIBRARY_PATH -u LD_PRELOAD'
  printf " '%s'" "${start[@]}"
  echo ' "$@"'
} > "$scratch/command"
chmod +x "$scratch/command"
"$scratch/command" --version > /dev/null 2>&1 || die "it was fetched but does not start"
mv "$scratch/command" "$command"
echo "$command"
