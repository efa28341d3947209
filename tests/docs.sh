#!/bin/sh
# Builds the site into build/site, offline, with warnings as errors. Arguments go to .docs/stage.py:
#   sh tests/docs.sh                    everything; examples that have changed are run
#   sh tests/docs.sh --run none         without running examples
# DOCS_PYTHON names another Python with the extra `docs`, DOCS_BUILD another folder than build.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${DOCS_PYTHON:-}" ]; then
    . tests/venv.sh
    DOCS_PYTHON=.venv/bin/python
    "$DOCS_PYTHON" -c "import furo, latex2mathml, myst_parser, sphinx" 2>/dev/null ||
        "$DOCS_PYTHON" -m pip install -q --disable-pip-version-check -c tests/constraints.txt -e '.[docs]'
fi
build="${DOCS_BUILD:-build}"
"$DOCS_PYTHON" .docs/stage.py "$build/site-source" "$@"
rm -rf "$build/site"
DOCS_EXTRA="$(cd "$build" && pwd)/site-source-extra" "$DOCS_PYTHON" -m sphinx -b html -c .docs -q -W --keep-going \
    -d "$build/site-doctrees" "$build/site-source" "$build/site"
echo "the site is in $build/site/index.html"
