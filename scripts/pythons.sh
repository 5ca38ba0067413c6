#!/usr/bin/env bash
# On each Python that settings.ini promises: what is published, used as a user does; on the newest the quick tests too, for what
# breaks between two Pythons breaks there. One that cannot be had here is a failure, unless it is allowed to be missing by
# name: CEREBRO_PYTHONS_MAY_LACK="3.12 3.13" make pythons
set -euo pipefail
cd "$(dirname "$0")/.."
whole=$(.venv/bin/python -c "import sys; print('%d.%d' % sys.version_info[:2])" 2> /dev/null || true) # `make test-all` runs its tests
newest=$(sed -n 's/^pythons = .* //p' settings.ini)
missing=()
refused=()
for version in $(sed -n 's/^pythons = //p' settings.ini); do
  if [ "$version" = "$whole" ]; then
    make artefacts
  elif python=$(scripts/interpreter.sh "$version"); then
    make artefacts $([ "$version" != "$newest" ] || echo quick) VENV=".venv-$version" PYTHON="$python"
  else
    missing+=("$version")
    [[ " ${CEREBRO_PYTHONS_MAY_LACK:-} " == *" $version "* ]] || refused+=("$version")
  fi
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "NOT TESTED, for want of an interpreter: Python ${missing[*]}" >&2
fi
if [ ${#refused[@]} -gt 0 ]; then
  echo "To do without: CEREBRO_PYTHONS_MAY_LACK=\"${missing[*]}\"" >&2
  exit 1
fi
