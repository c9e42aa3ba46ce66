#!/usr/bin/env bash
# psql against a node: what people type at it first, and COPY through it.
# Usage: psql.sh URL
set -euo pipefail
url=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sql() { psql -X -q -v ON_ERROR_STOP=1 -At "$url" "$@"; }

# expect WHAT EXPECTED ACTUAL
expect() {
    [ "$2" = "$3" ] && return
    printf '%s\nexpected:\n%s\ngot:\n%s\n' "$1" "$2" "$3" >&2
    exit 1
}

# contains WHAT TEXT..  ACTUAL on stdin
contains() {
    local what=$1 actual
    actual=$(cat)
    shift
    for text in "$@"; do
        case $actual in
        *"$text"*) ;;
        *)
            printf '%s: no "%s" in:\n%s\n' "$what" "$text" "$actual" >&2
            exit 1
            ;;
        esac
    done
}

sql -c "CREATE TABLE plants (id INT8 PRIMARY KEY, name TEXT NOT NULL, height NUMERIC(6,2) DEFAULT 1.5, seen TIMESTAMPTZ)"
sql -c "CREATE TABLE \"Odd Name\" (a INT, \"B c\" TEXT[])"
expect insert "INSERT 0 2" "$(psql -X -At "$url" -c "INSERT INTO plants (id, name) VALUES (1, 'oak'), (2, 'elm')")"
expect select "1|oak|1.50|" "$(sql -c "SELECT * FROM plants WHERE id = 1")"
expect variables "elm" "$(echo "SELECT name FROM plants WHERE id = :id" | sql -v id=2)"
expect several "$(printf '1\n2')" "$(sql -c "SELECT 1; SELECT 2")"
expect exit "3" "$(echo "SELECT nope FROM plants" | sql 2>/dev/null || echo $?)"
expect unset "ok" "$(sql -c "BEGIN" -c "DELETE FROM plants" -c "ROLLBACK" -c "SELECT 'ok' FROM plants WHERE id = 1")"

contains '\d' '"Odd Name"' plants <<<"$(psql -X "$url" -c '\d' | sed 's/Odd Name/"Odd Name"/')"
contains '\dt' plants table public <<<"$(psql -X "$url" -c '\dt')"
contains '\d plants' 'Table "public.plants"' id bigint name text 'not null' 'numeric(6,2)' \
    'timestamp with time zone' '1.5' plants_pkey 'PRIMARY KEY' <<<"$(psql -X "$url" -c '\d plants')"
contains '\d "Odd Name"' 'B c' 'text[]' <<<"$(psql -X "$url" -c '\d "Odd Name"')"
contains '\l' UTF8 <<<"$(psql -X "$url" -c '\l')"
contains '\dn' public <<<"$(psql -X "$url" -c '\dn')"
contains '\conninfo' 'You are connected' <<<"$(psql -X "$url" -c '\conninfo')"
contains '\d nothing' 'Did not find' <<<"$(psql -X "$url" -c '\d nothing' 2>&1 || true)"
contains 'an error' 'ERROR:  relation "nowhere" does not exist' 'LINE 1' '^' \
    <<<"$(psql -X "$url" -c 'SELECT * FROM nowhere' 2>&1 || true)"
contains notice 'already exists, skipping' <<<"$(psql -X "$url" -c 'CREATE TABLE IF NOT EXISTS plants (a INT)' 2>&1)"
contains gdesc name text height 'numeric(6,2)' <<<"$(echo 'SELECT name, height FROM plants \gdesc' | psql -X "$url")"

printf '3,ash,12.25,2024-05-06 07:08:09+00\n4,"fir, ""old""",,\n' >"$work/in.csv"
expect copy "COPY 2" "$(psql -X -At "$url" -c "\\copy plants FROM '$work/in.csv' WITH (FORMAT csv)")"
expect copied "$(printf '3|ash|12.25|2024-05-06 07:08:09+00\n4|fir, "old"||')" "$(sql -c "SELECT * FROM plants WHERE id > 2 ORDER BY id")"
sql -c "\\copy (SELECT * FROM plants ORDER BY id) TO '$work/out.csv' WITH (FORMAT csv, HEADER)"
expect 'csv out' "$(printf 'id,name,height,seen\n1,oak,1.50,\n2,elm,1.50,\n3,ash,12.25,2024-05-06 07:08:09+00\n4,"fir, ""old""",,')" "$(cat "$work/out.csv")"
expect 'text out' "$(printf '4\tfir, "old"\t\\N\t\\N')" "$(sql -c "COPY (SELECT * FROM plants WHERE id = 4) TO STDOUT")"
for format in text csv binary; do
    sql -c "CREATE TABLE copy_$format (id INT8 PRIMARY KEY, name TEXT NOT NULL, height NUMERIC(6,2), seen TIMESTAMPTZ)"
    sql -c "COPY plants TO STDOUT WITH (FORMAT $format)" >"$work/all.$format"
    sql -c "COPY copy_$format FROM STDIN WITH (FORMAT $format)" <"$work/all.$format"
    expect "the way back by $format" "0" "$(sql -c "SELECT count(*) FROM (SELECT * FROM plants EXCEPT SELECT * FROM copy_$format) x")"
    expect "rows by $format" "4" "$(sql -c "SELECT count(*) FROM copy_$format")"
done
# A COPY is stored as a whole or not at all.
printf '9,nine,,\n1,again,,\n' | sql -c "COPY plants FROM STDIN WITH (FORMAT csv)" 2>"$work/error" && exit 1
contains 'COPY of an existing key' 'duplicate key' <"$work/error"
printf '9,nine,,\nten,ten,,\n' | sql -c "COPY plants FROM STDIN WITH (FORMAT csv)" 2>"$work/error" && exit 1
contains 'COPY of a bad value' 'invalid input syntax' 'line 2' <"$work/error"
expect 'nothing stored' "4" "$(sql -c "SELECT count(*) FROM plants")"

echo "psql: ok"
