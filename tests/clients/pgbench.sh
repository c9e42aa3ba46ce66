#!/usr/bin/env bash
# pgbench's own tables and its TPC-B-like script, by all three protocols; then the sums must agree.
# Prints what it did; exits with 0 if all was right. Needs psql, too.
set -euo pipefail
url=$1

ask() { psql -X -At -v ON_ERROR_STOP=1 "$url" -c "$1"; }

check() {
    local sums expected=$1
    sums=$(ask "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history),
        (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history),
        (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history),
        (SELECT count(*) FROM pgbench_history)")
    if [ "$sums" != "t|t|t|$expected" ]; then
        echo "sums and transactions are $sums, expected t|t|t|$expected" >&2
        exit 1
    fi
}

# Keys before rows, then rows before keys, which is pgbench's own order.
for steps in dtpgv dtgvp; do
    pgbench --initialize --init-steps=$steps --quiet "$url"
    [ "$(ask 'SELECT count(*) FROM pgbench_accounts')" = 100000 ]
    done=0
    for protocol in simple extended prepared; do
        pgbench --no-vacuum --client=4 --jobs=2 --transactions=5 --max-tries=1000 --protocol=$protocol "$url"
        done=$((done + 20))
        check $done
    done
    echo "pgbench: $steps, $done transactions"
done
