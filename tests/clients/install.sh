#!/usr/bin/env bash
# Installs the clients that these scripts use into a directory, as far as this machine can, and
# prints the environment that makes the tests find them:
#   eval "$(tests/clients/install.sh DIR)"
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
into=$(cd "$1" && pwd)

if python3 -m venv "$into/python" >&2 && "$into/python/bin/pip" -q install -r "$here/requirements.txt" >&2; then
    echo "export CHRONOS_TEST_PYTHON='$into/python/bin/python'"
else
    echo "no Python clients" >&2
fi
if command -v npm >/dev/null && cp "$here/package.json" "$into" && (cd "$into" && npm install --silent --no-audit --no-fund >&2); then
    echo "export NODE_PATH='$into/node_modules'"
else
    echo "no node pg" >&2
fi
# Debian's libpostgresql-jdbc-java.
jar=/usr/share/java/postgresql.jar
if command -v java >/dev/null && [ -f "$jar" ]; then
    echo "export CHRONOS_TEST_JDBC_JAR='$jar'"
else
    echo "no JDBC driver" >&2
fi
