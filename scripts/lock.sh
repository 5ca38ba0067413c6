#!/usr/bin/env bash
# Write constraints.txt: the newest versions that fit settings.ini, all extras included.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --upgrade pip
"$work/venv/bin/python" -m pip install ".[embedded,postgres,lab,documents,vectors,multilingual,quality,datasets,dev]"
{
  echo "# Versions that are tested together. Refresh: make lock"
  "$work/venv/bin/python" -m pip freeze --exclude cerebro-nb
} > constraints.txt
