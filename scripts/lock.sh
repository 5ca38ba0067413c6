#!/usr/bin/env bash
# Write lock.txt: the newest versions that fit settings.ini, all extras included, with the hashes of their files, one list for every
# Python and system that is promised; `make pythons` shows that each can install it. And constraints.txt: its versions alone, for who
# installs Cerebro from an index, where no hash of ours can be known. Words are given to uv: scripts/lock.sh --upgrade-package numpy
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
oldest=$(sed -n 's/^min_python = //p' settings.ini)
"${PYTHON:-$(scripts/interpreter.sh "$oldest")}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet uv
"$work/venv/bin/python" scripts/requirements.py > "$work/requirements.in"
"$work/venv/bin/uv" pip compile "$work/requirements.in" --quiet --universal --python-version "$oldest" --fork-strategy fewest \
  --only-binary :all: --generate-hashes --no-annotate --no-header --output-file lock.txt "${@:---upgrade}"
{
  echo "# The versions of lock.txt, without its hashes. Refresh: make lock"
  sed -n 's/ \\$//; /==/p' lock.txt
} > constraints.txt
