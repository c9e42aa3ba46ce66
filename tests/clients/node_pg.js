// node `pg` against a node: queries, parameters, prepared names, a pool, transactions, errors.
// Usage: node_pg.js URL
'use strict';
const assert = require('assert');
const { Client, Pool } = require('pg');

async function types(client) {
  await client.query(`CREATE TABLE types (id INT8 PRIMARY KEY, b BOOL, i2 INT2, i4 INT4, f8 FLOAT8, n NUMERIC(10,2),
    t TEXT, x BYTEA, u UUID, tz TIMESTAMPTZ, j JSONB, a TEXT[], ai INT4[])`);
  const at = new Date('2024-02-29T12:34:56.789Z');
  const values = [1, true, -5, 70000, 0.1, '12.50', "it's 漢字 🦀", Buffer.from([0, 255]),
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', at, { a: [1, null] }, ['a b', '', null], [1, 2]];
  const marks = values.map((_, i) => `$${i + 1}`).join(', ');
  const inserted = await client.query(`INSERT INTO types VALUES (${marks})`, values);
  assert.strictEqual(inserted.rowCount, 1);
  await client.query('INSERT INTO types (id) VALUES ($1)', [2]);
  const { rows, fields } = await client.query('SELECT * FROM types ORDER BY id');
  assert.deepStrictEqual(rows[0], {
    id: '1', b: true, i2: -5, i4: 70000, f8: 0.1, n: '12.50', t: "it's 漢字 🦀", x: Buffer.from([0, 255]),
    u: 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', tz: at, j: { a: [1, null] }, a: ['a b', '', null], ai: [1, 2],
  });
  assert.strictEqual(fields[0].dataTypeID, 20); // INT8, a string in JavaScript
  assert.ok(Object.entries(rows[1]).every(([name, value]) => name === 'id' || value === null));
  const some = await client.query('SELECT id FROM types WHERE id = ANY($1) ORDER BY id', [[1, 2, 3]]);
  assert.deepStrictEqual(some.rows.map((r) => r.id), ['1', '2']);
}

async function statements(client) {
  await client.query('CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)');
  for (let i = 0; i < 20; i++) {
    await client.query({ name: 'put', text: 'INSERT INTO t VALUES ($1, $2)', values: [i, `v${i}`] });
  }
  const one = await client.query({ name: 'get', text: 'SELECT v FROM t WHERE id = $1', values: [7], rowMode: 'array' });
  assert.deepStrictEqual(one.rows, [['v7']]);
  const several = await client.query('SELECT 1 AS a; SELECT 2 AS b');
  assert.deepStrictEqual(several.map((r) => r.rows.length), [1, 1]);
  const changed = await client.query('UPDATE t SET v = $1 WHERE id < $2 RETURNING id, v', ['x', 2]);
  assert.deepStrictEqual(changed.rows.map((r) => r.v), ['x', 'x']);
}

async function errors(client) {
  await assert.rejects(client.query('SELECT * FROM nowhere'), { code: '42P01' });
  await assert.rejects(client.query('INSERT INTO t VALUES ($1, $2)', [1, 'again']), { code: '23505', constraint: 't_pkey', table: 't' });
  await assert.rejects(client.query('SELEC 1'), { code: '42601', position: '1' });
  await assert.rejects(client.query('SELECT $1::int8', ['x']), { code: '22P02' });
  assert.strictEqual((await client.query('SELECT count(*) FROM t')).rows[0].count, '20');
}

async function transactions(client) {
  await client.query('BEGIN');
  await client.query('DELETE FROM t');
  await client.query('ROLLBACK');
  assert.strictEqual((await client.query('SELECT count(*) AS n FROM t')).rows[0].n, '20');
}

async function pool(url) {
  const many = new Pool({ connectionString: url, max: 8 });
  await Promise.all(Array.from({ length: 100 }, (_, i) => many.query('INSERT INTO t VALUES ($1, $2)', [1000 + i, 'pool'])));
  const { rows } = await many.query("SELECT count(*)::int4 AS n FROM t WHERE v = 'pool'");
  assert.deepStrictEqual(rows, [{ n: 100 }]);
  await many.end();
}

async function main(url) {
  const client = new Client({ connectionString: url });
  await client.connect();
  await types(client);
  await statements(client);
  await errors(client);
  await transactions(client);
  await client.end();
  await pool(url);
  console.log('node pg: ok');
}

main(process.argv[2]).catch((e) => { console.error(e); process.exit(1); });
