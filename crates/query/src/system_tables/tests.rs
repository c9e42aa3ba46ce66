//! System tables, queried through the engine over a small catalog.

use std::path::Path;
use std::sync::Arc;

use chronos_model::{text, value_at, Catalog, DataType, TableId};
use chronos_store::{Store, StoreOptions};
use futures::StreamExt;

use crate::sql::{parse, Command};
use crate::{Engine, EngineOptions, QueryError, ReadContext, SessionFacts};

/// A database of three tables.
fn catalog() -> Catalog {
    let mut catalog = Catalog {
        version: 1,
        next_table_id: 4,
        ..Catalog::default()
    };
    for (id, sql) in [
        "CREATE TABLE t (id bigint PRIMARY KEY, name text NOT NULL, v float8 DEFAULT 1.5)",
        "CREATE TABLE readings (device text, ts timestamptz, v numeric(10,2), e vector(3), PRIMARY KEY (ts, device)) WITH (ttl='7d')",
        "CREATE TABLE \"No Key\" (a int4, b varchar(20), c text[])",
    ]
    .into_iter()
    .enumerate()
    {
        let Ok(Command::CreateTable(create)) = parse(sql) else { panic!("{sql}") };
        let mut table = crate::ddl::table_schema(&create).unwrap();
        table.id = TableId(id as u32 + 1);
        catalog.tables.insert(table.name.clone(), Arc::new(table));
    }
    catalog
}

/// The rows of a query, NULL as `NULL`.
pub(crate) fn query(sql: &str) -> Result<Vec<Vec<String>>, QueryError> {
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    let store = Store::open(&chronos_env::Env::simulated(1), Path::new("/s"), options).unwrap();
    let engine = Engine::new(&EngineOptions {
        parallelism: 1,
        memory: chronos_store::MemoryAccount::new(chronos_store::MemoryShares::of(4 << 30)),
        spill: crate::SpillOptions::default(),
    })?;
    let facts = SessionFacts {
        user: "ada".into(),
        database: "farm".into(),
        role: Some(chronos_model::Role::Admin),
        search_path: None,
    };
    let statement = crate::sql::parse_query(sql)?;
    let plan = engine.plan(&statement, &Arc::new(catalog()), &facts, &[], &[])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let context = ReadContext {
            defaults: Default::default(),
            view: store.read_view(),
            now_micros: 0,
            settings: Arc::default(),
        };
        let mut stream = engine.execute(&plan, &[], context).await?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let cell = |column: usize| {
                    let field = batch.schema().field(column).clone();
                    let data_type = DataType::of_field(&field);
                    let array =
                        crate::coerce_array(batch.column(column), &field, &data_type).unwrap();
                    match value_at(&array, row, &data_type).unwrap() {
                        chronos_model::Value::Null => "NULL".to_owned(),
                        value => text::format(&value),
                    }
                };
                rows.push((0..batch.num_columns()).map(cell).collect());
            }
        }
        Ok(rows)
    })
}

/// The only cell of a query.
pub(crate) fn one(sql: &str) -> String {
    match query(sql) {
        Ok(mut rows) if rows.len() == 1 && rows[0].len() == 1 => rows.remove(0).remove(0),
        other => panic!("{sql}: {other:?}"),
    }
}

/// The SQLSTATE with which a query fails.
pub(crate) fn code(sql: &str) -> &'static str {
    query(sql).expect_err(sql).code.0
}

/// The rows, their cells joined.
fn lines(sql: &str) -> Vec<String> {
    query(sql)
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
        .into_iter()
        .map(|row| row.join("|"))
        .collect()
}

/// What the catalog of these tests has none of.
const NONE_OF: [&str; 7] = [
    "check_constraints",
    "pg_auth_members",
    "pg_description",
    "pg_sequence",
    "pg_sequences",
    "referential_constraints",
    "sequences",
];

#[test]
fn every_system_table_can_be_read() {
    for relation in super::relations::all() {
        let sql = format!("SELECT * FROM {}.{}", relation.schema, relation.name);
        let rows = query(&sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let is_empty = super::is_always_empty(Some(relation.schema), relation.name);
        if !NONE_OF.contains(&relation.name) {
            assert_eq!(rows.is_empty(), is_empty, "{sql}");
        }
    }
    assert_eq!(code("SELECT * FROM pg_nope"), "42P01");
    assert_eq!(code("SELECT * FROM columns"), "42P01");
}

#[test]
fn tables_and_their_columns() {
    assert_eq!(
        lines("SELECT oid, relname, relkind, relhasindex, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid"),
        [
            "17385|t|r|t|NULL",
            "17386|readings|r|t|{ttl=7d,time_column=ts,bucket=1d}",
            "17387|No Key|r|f|NULL",
            "1000001|t_pkey|i|f|NULL",
            "1000002|readings_pkey|i|f|NULL",
        ]
    );
    assert_eq!(
        lines(
            "SELECT attnum, attname, format_type(atttypid, atttypmod), attnotnull, atthasdef FROM pg_attribute
             WHERE attrelid = 'readings'::regclass AND attnum > 0 ORDER BY attnum"
        ),
        [
            "1|device|text|t|f",
            "2|ts|timestamp with time zone|t|f",
            "3|v|numeric(10,2)|f|f",
            "4|e|vector(3)|f|f",
        ]
    );
    assert_eq!(
        lines(
            "SELECT column_name, data_type, udt_name, is_nullable, column_default, character_maximum_length
             FROM information_schema.columns WHERE table_name IN ('t', 'No Key') ORDER BY table_name, ordinal_position"
        ),
        [
            "a|integer|int4|YES|NULL|NULL",
            "b|character varying|varchar|YES|NULL|20",
            "c|ARRAY|_text|YES|NULL|NULL",
            "id|bigint|int8|NO|NULL|NULL",
            "name|text|text|NO|NULL|NULL",
            "v|double precision|float8|YES|1.5|NULL",
        ]
    );
}

#[test]
fn keys_in_their_order() {
    assert_eq!(
        lines("SELECT indexrelid::regclass, indkey, indisprimary FROM pg_index WHERE indrelid = 'readings'::regclass"),
        ["readings_pkey|{2,1}|t"]
    );
    assert_eq!(
        lines(
            "SELECT kcu.column_name FROM information_schema.table_constraints tc
             JOIN information_schema.key_column_usage kcu USING (constraint_name)
             WHERE tc.constraint_type = 'PRIMARY KEY' AND tc.table_name = 'readings' ORDER BY kcu.ordinal_position"
        ),
        ["ts", "device"]
    );
}

/// What psql 15 asks for `\d readings`, with the id it found.
#[test]
fn psql_describes_a_table() {
    assert_eq!(
        lines(
            "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default
             AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3"
        ),
        ["17385|public|t"]
    );
    assert_eq!(
        lines(
            "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
               (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d
                WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
               a.attnotnull,
               (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t
                WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation,
               a.attidentity, a.attgenerated
             FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = '17385' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ),
        ["id|bigint|NULL|t|NULL||", "name|text|NULL|t|NULL||", "v|double precision|1.5|f|NULL||"]
    );
    assert_eq!(
        lines(
            "SELECT c2.relname, i.indisprimary, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true),
               pg_catalog.pg_get_constraintdef(con.oid, true), contype
             FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i
               LEFT JOIN pg_catalog.pg_constraint con
               ON (conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x'))
             WHERE c.oid = '17385' AND c.oid = i.indrelid AND i.indexrelid = c2.oid ORDER BY i.indisprimary DESC, c2.relname"
        ),
        ["t_pkey|t|CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)|PRIMARY KEY (id)|p"]
    );
    assert_eq!(
        lines(
            "SELECT pubname, NULL, NULL FROM pg_catalog.pg_publication p
               JOIN pg_catalog.pg_publication_namespace pn ON p.oid = pn.pnpubid
               JOIN pg_catalog.pg_class pc ON pc.relnamespace = pn.pnnspid
             WHERE pc.oid = '17385' and pg_catalog.pg_relation_is_publishable('17385')
             UNION
             SELECT pubname, pg_get_expr(pr.prqual, c.oid),
               (CASE WHEN pr.prattrs IS NOT NULL THEN
                 (SELECT string_agg(attname, ', ')
                  FROM pg_catalog.generate_series(0, pg_catalog.array_upper(pr.prattrs::pg_catalog.int2[], 1)) s,
                       pg_catalog.pg_attribute
                  WHERE attrelid = pr.prrelid AND attnum = prattrs[s])
                ELSE NULL END)
             FROM pg_catalog.pg_publication p
               JOIN pg_catalog.pg_publication_rel pr ON p.oid = pr.prpubid
               JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid
             WHERE pr.prrelid = '17385' ORDER BY 1"
        ),
        [""; 0]
    );
}

/// What psql 15 asks for `\d t_pkey`.
#[test]
fn psql_describes_an_index() {
    assert_eq!(
        lines(
            "SELECT i.indisunique,
               (NOT i.indimmediate) AND EXISTS (SELECT 1 FROM pg_catalog.pg_constraint
                 WHERE conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x') AND condeferrable) AS x,
               a.amname, c2.relname, pg_catalog.pg_get_expr(i.indpred, i.indrelid, true)
             FROM pg_catalog.pg_index i, pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_am a
             WHERE i.indexrelid = c.oid AND c.oid = '1000001' AND c.relam = a.oid AND i.indrelid = c2.oid"
        ),
        ["t|f|btree|t|NULL"]
    );
}

/// What SQLAlchemy 2 and JDBC 42 ask for a primary key.
#[test]
fn drivers_find_the_primary_key() {
    assert_eq!(
        lines(
            "SELECT attr.conname, array_agg(CAST(attr.attname AS TEXT) ORDER BY attr.ord) AS cols, bool_and(attr.indnullsnotdistinct)
             FROM (SELECT con.conname, con.ord, con.indnullsnotdistinct, pg_catalog.pg_attribute.attname AS attname
               FROM pg_catalog.pg_attribute JOIN (
                 SELECT pg_catalog.pg_constraint.conrelid AS conrelid, pg_catalog.pg_constraint.conname AS conname,
                   unnest(pg_catalog.pg_index.indkey) AS attnum, generate_subscripts(pg_catalog.pg_index.indkey, 1) AS ord,
                   pg_catalog.pg_index.indnullsnotdistinct AS indnullsnotdistinct
                 FROM pg_catalog.pg_constraint
                 JOIN pg_catalog.pg_index ON pg_catalog.pg_constraint.conindid = pg_catalog.pg_index.indexrelid
                 LEFT OUTER JOIN pg_catalog.pg_description ON pg_catalog.pg_description.objoid = pg_catalog.pg_constraint.oid
                   AND pg_catalog.pg_description.classoid = CAST('pg_constraint' AS REGCLASS)
                 WHERE pg_catalog.pg_constraint.contype = 'p' AND pg_catalog.pg_constraint.conrelid IN (17386)) AS con
               ON pg_catalog.pg_attribute.attnum = con.attnum AND pg_catalog.pg_attribute.attrelid = con.conrelid) AS attr
             GROUP BY attr.conname"
        ),
        ["readings_pkey|{ts,device}|f"]
    );
    assert_eq!(
        lines(
            "SELECT result.COLUMN_NAME, result.KEY_SEQ FROM (
               SELECT a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ,
                 information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM
               FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)
               JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid)
               WHERE ct.relname = 'readings' AND i.indisprimary) result
             WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY result.key_seq"
        ),
        ["ts|1", "device|2"]
    );
}

/// What psycopg 3 and JDBC 42 ask for a type.
#[test]
fn drivers_find_types() {
    assert_eq!(
        lines("SELECT typname AS name, oid, typarray, oid::regtype::text FROM pg_type t WHERE t.oid = to_regtype('jsonb') ORDER BY t.oid"),
        ["jsonb|3802|3807|jsonb"]
    );
    assert_eq!(
        lines(
            "SELECT TYPINPUT = 'pg_catalog.array_in'::regproc as is_array, typtype, typname, pg_type.oid
             FROM pg_catalog.pg_type LEFT JOIN (
               select ns.oid as nspoid, ns.nspname, r.r from pg_namespace as ns join (
                 select s.r, (current_schemas(false))[s.r] as nspname
                 from generate_series(1, array_upper(current_schemas(false), 1)) as s(r)) as r using (nspname)
             ) as sp ON sp.nspoid = typnamespace
             WHERE typname = '_int8' ORDER BY sp.r, pg_type.oid DESC"
        ),
        ["t|b|_int8|1016"]
    );
}

#[test]
fn grafana_lists_tables() {
    assert_eq!(
        lines(
            "SELECT CASE WHEN quote_ident(table_schema) IN (
               SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END
               FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1),
                 array_upper(string_to_array(current_setting('search_path'),','),1)) as i,
                 string_to_array(current_setting('search_path'),',') s)
             THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS \"table\"
             FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema','pg_catalog') ORDER BY 1"
        ),
        ["\"No Key\"", "readings", "t"]
    );
}
