"""A shop on SQLAlchemy, its tables made and unmade by Alembic's migrations, as an application does it.

Usage: alembic_test.py URL
"""

import datetime as dt
import decimal
import io
import pathlib
import sys
import threading
import uuid

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload, selectinload, subqueryload

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here))

from orm.alembic_app.models import Base, Customer, Line, Order, Product, Tier  # noqa: E402
from orm.mode import CURSORS, FOREIGN_KEYS, TRANSACTIONAL_DDL  # noqa: E402

UTC = dt.timezone.utc
D = decimal.Decimal
HEAD = "0006"


def config(url):
    it = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    it.set_main_option("script_location", str(here / "orm/alembic_app"))
    it.set_main_option("path_separator", "os")
    it.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return it


def revision(engine):
    with engine.connect() as conn:
        return conn.scalar(sa.text("SELECT version_num FROM alembic_version"))


def columns(engine, table):
    return {c["name"]: c for c in sa.inspect(engine).get_columns(table)}


def migrate(engine, alembic):
    """Up in steps, with rows in between; down to nothing; up at once."""
    command.upgrade(alembic, "0002")
    product = uuid.uuid4()
    with engine.begin() as conn:
        conn.execute(
            sa.text("INSERT INTO customer (email, name) VALUES (:email, :name)"),
            [{"email": f"Buyer{n}@Example.org", "name": f"buyer {n}"} for n in range(3)],
        )
        ids = conn.scalars(sa.text("SELECT id FROM customer ORDER BY id")).all()
        conn.execute(
            sa.text("INSERT INTO product (id, sku, title, price) VALUES (:id, 'a', 'a thing', 2.50)"), {"id": product}
        )
        orders = conn.scalars(
            sa.text('INSERT INTO "order" (customer_id) VALUES (:a), (:a), (:b) RETURNING id'), {"a": ids[0], "b": ids[1]}
        ).all()
        conn.execute(
            sa.text("INSERT INTO line (order_id, number, product_id, quantity, price) VALUES (:o, 1, :p, 3, 2.50)"),
            {"o": orders[0], "p": product},
        )
    command.upgrade(alembic, HEAD)
    assert revision(engine) == HEAD
    with engine.connect() as conn:
        rows = conn.execute(sa.text("SELECT email, full_name, tier, tags, phone FROM customer ORDER BY id")).all()
        assert rows == [
            ("buyer0@example.org", "buyer 0", "gold", [], None),
            ("buyer1@example.org", "buyer 1", "basic", [], None),
            ("buyer2@example.org", "buyer 2", "basic", [], None),
        ], rows
        assert conn.execute(sa.text("SELECT quantity, price FROM line")).all() == [(3, D("2.50"))]
        assert conn.execute(sa.text("SELECT title, stock FROM product")).all() == [("a thing", 0)]
    assert "scratch" not in sa.inspect(engine).get_table_names()
    assert isinstance(columns(engine, "line")["quantity"]["type"], sa.BigInteger)

    command.downgrade(alembic, "0003")
    assert isinstance(columns(engine, "line")["quantity"]["type"], sa.SmallInteger)
    assert "name" in columns(engine, "customer") and "weight" in columns(engine, "product")
    with engine.connect() as conn:
        assert conn.scalars(sa.text("SELECT quantity FROM line")).all() == [3]
    command.downgrade(alembic, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    command.upgrade(alembic, "head")


def no_difference(alembic):
    """What the models say is what the migrations have made."""
    command.check(alembic)


def failed_migration(engine, alembic):
    """With transactional DDL nothing is left of a migration that fails."""
    if not TRANSACTIONAL_DDL:
        return
    with engine.connect() as conn:
        try:
            with conn.begin():
                conn.execute(sa.text("CREATE TABLE half (id BIGINT PRIMARY KEY)"))
                conn.execute(sa.text("ALTER TABLE product ADD COLUMN half BIGINT"))
                conn.execute(sa.text("INSERT INTO product (id, sku, title, price) VALUES (gen_random_uuid(), '0', '0', 0)"))
                raise AssertionError("a CHECK was not heeded")
        except sa.exc.IntegrityError:
            pass
    assert "half" not in sa.inspect(engine).get_table_names() and "half" not in columns(engine, "product")
    command.check(alembic)


def reads_and_writes(engine):
    placed = dt.datetime(2024, 2, 29, 12, 30)
    with Session(engine) as session:
        products = [
            Product(sku=f"p{n}", title=f"product {n}", price=D(n) + D("0.99"), facts={"n": n}, released=dt.date(2024, 1, 1 + n))
            for n in range(20)
        ]
        ada = Customer(email="ada@example.org", full_name="Ada", tier=Tier.gold, profile={"langs": ["en", "fr"], "age": 36}, tags=["vip", 'a "b", c'])
        bob = Customer(email="bob@example.org", full_name="Bob")
        session.add_all(products)
        for customer, count in ((ada, 3), (bob, 2)):
            for n in range(count):
                order = Order(placed=placed + dt.timedelta(days=n), status="open" if n else "done")
                order.lines = [Line(number=i, product=products[n + i], quantity=i + 1, price=products[n + i].price) for i in range(3)]
                customer.orders.append(order)
        session.add_all([ada, bob])
        session.commit()
        # Given by the database, read back after INSERT.
        assert ada.id and bob.id and ada.id != bob.id and ada.orders[0].id
        assert bob.tier is Tier.basic and bob.tags == [] and bob.since.tzinfo is not None
        assert ada.domain == "example.org" and ada.orders[0].lines[2].quantity == 3

    for load in (selectinload, joinedload, subqueryload):
        with Session(engine) as session:
            query = sa.select(Customer).options(load(Customer.orders).options(load(Order.lines).options(joinedload(Line.product)))).order_by(Customer.id)
            customers = session.scalars(query).unique().all()
            session.expunge_all()
            assert [len(c.orders) for c in customers] == [3, 2], load
            assert [[line.number for line in o.lines] for o in customers[1].orders] == [[0, 1, 2]] * 2
            assert customers[0].orders[1].lines[1].product.sku == "p2"
            assert customers[0].profile == {"langs": ["en", "fr"], "age": 36} and customers[0].tags == ["vip", 'a "b", c']

    with Session(engine) as session:
        lazy = session.scalars(sa.select(Order).order_by(Order.id)).first()
        assert lazy.customer.full_name == "Ada" and lazy.placed == placed
        with_french = session.scalars(sa.select(Customer.full_name).where(Customer.profile["langs"].contains(["fr"]))).all()
        assert with_french == ["Ada"]
        assert session.scalars(sa.select(Customer.full_name).where(Customer.profile["age"].as_integer() > 30)).all() == ["Ada"]
        assert session.scalars(sa.select(Customer.full_name).where("vip" == sa.any_(Customer.tags))).all() == ["Ada"]
        assert session.scalars(sa.select(Customer.full_name).where(Customer.tags.contains(["vip"]))).all() == ["Ada"]
        sums = session.execute(
            sa.select(Customer.full_name, sa.func.sum(Line.quantity * Line.price), sa.func.count(sa.distinct(Order.id)))
            .join(Customer.orders).join(Order.lines).group_by(Customer.full_name).order_by(sa.desc(sa.func.sum(Line.quantity * Line.price)))
        ).all()
        assert [(n, c) for n, _, c in sums] == [("Ada", 3), ("Bob", 2)] and sums[0][1] > sums[1][1] > 0, sums
        ranked = session.execute(
            sa.select(Order.id, sa.func.row_number().over(partition_by=Order.customer_id, order_by=Order.placed.desc()).label("nth"))
            .order_by(Order.id)
        ).all()
        assert [n for _, n in ranked] == [3, 2, 1, 2, 1]
        newest = sa.select(Order).where(Order.customer_id == Customer.id).order_by(Order.placed.desc()).limit(1).lateral()
        found = session.execute(sa.select(Customer.full_name, newest.c.placed).join(newest, sa.true()).order_by(Customer.id)).all()
        assert found == [("Ada", placed + dt.timedelta(days=2)), ("Bob", placed + dt.timedelta(days=1))]
        assert session.scalar(sa.select(sa.exists().where(Order.status == "open"))) is True
        matching = session.scalars(sa.select(Product.sku).where(Product.title.ilike("%PRODUCT 1%")).order_by(Product.sku)).all()
        assert matching == ["p1"] + [f"p{n}" for n in range(10, 20)]
        days = session.execute(
            sa.select(sa.func.date_trunc("month", Order.placed), sa.extract("dow", sa.func.min(Order.placed)), sa.func.count()).group_by(sa.text("1")).order_by(sa.text("1"))
        ).all()
        assert [(m, c) for m, _, c in days] == [(dt.datetime(2024, 2, 1), 2), (dt.datetime(2024, 3, 1), 3)]
        page = session.scalars(sa.select(Product).order_by(Product.price.desc()).offset(5).limit(3)).all()
        assert [p.sku for p in page] == ["p14", "p13", "p12"]

    # The unit of work: changes, a delete with what belongs to it, and none of it after a rollback.
    with Session(engine) as session:
        bob = session.scalars(sa.select(Customer).where(Customer.email == "bob@example.org")).one()
        bob.full_name, bob.tags = "Robert", ["new"]
        bob.orders[0].lines[0].quantity = 10
        session.delete(bob.orders[1])
        session.flush()
        assert session.scalar(sa.select(sa.func.count()).select_from(Line)) == 12
        session.rollback()
        assert bob.full_name == "Bob" and len(bob.orders) == 2
        session.delete(bob)
        session.commit()
        assert session.scalar(sa.select(sa.func.count()).select_from(Order)) == 3


def constraints(engine):
    def refused(statement, constraint, code):
        with engine.connect() as conn:
            try:
                conn.execute(statement)
                raise AssertionError(f"not refused: {constraint}")
            except sa.exc.IntegrityError as e:
                assert e.orig.sqlstate == code and e.orig.diag.constraint_name == constraint, (e, e.orig.diag.constraint_name)

    with engine.connect() as conn:
        one = conn.scalar(sa.select(Customer.id))
        product = conn.execute(sa.select(Product.id, Product.sku)).first()
        order = conn.scalar(sa.select(Order.id))
    refused(sa.insert(Customer).values(email="ada@example.org", full_name="x"), "uq_customer_email", "23505")
    refused(sa.insert(Customer).values(id=one, email="new", full_name="x"), "customer_pkey", "23505")
    refused(sa.text("UPDATE customer SET tier = 'silver'"), "ck_customer_tier", "23514")
    refused(sa.update(Product).values(price=0), "ck_product_price", "23514")
    refused(sa.insert(Product).values(sku="new", title=None, price=1), None, "23502")
    if FOREIGN_KEYS:
        refused(sa.insert(Order).values(customer_id=-1), "fk_order_customer_id_customer", "23503")
        refused(sa.delete(Product).where(Product.id.in_(sa.select(Line.product_id))), "fk_line_product_id_product", "23503")
        with engine.connect() as conn:
            conn.execute(sa.delete(Customer).where(Customer.id == one))
            assert conn.scalar(sa.select(sa.func.count()).select_from(Line).where(Line.order_id == order)) == 0
            conn.rollback()
    assert product


def bulk(engine):
    rows = [{"sku": f"bulk-{n:05}", "title": f"title {n}", "price": D(n % 50 + 1), "facts": {"n": n}} for n in range(3000)]
    with Session(engine) as session:
        ids = session.scalars(sa.insert(Product).returning(Product.id, sort_by_parameter_order=True), rows).all()
        assert len(set(ids)) == 3000
        session.commit()
        assert session.get(Product, ids[1234]).sku == "bulk-01234"
        session.execute(sa.update(Product), [{"id": i, "stock": n} for n, i in enumerate(ids[:500])])
        session.commit()
        assert session.scalar(sa.select(sa.func.sum(Product.stock)).where(Product.sku.like("bulk-%"))) == 499 * 500 // 2
        changed = session.execute(
            sa.update(Product).where(Product.stock > 400).values(stock=Product.stock + 1).returning(Product.sku),
            execution_options={"synchronize_session": False},
        ).all()
        assert len(changed) == 99, len(changed)
        session.rollback()
    # Results that are not held in memory at once.
    with Session(engine) as session:
        seen = 0
        options = {"yield_per": 500} if CURSORS else {}
        for part in session.execute(sa.select(Product).where(Product.sku.like("bulk-%")).order_by(Product.sku), execution_options=options).scalars().partitions(500):
            assert part[0].sku == f"bulk-{seen:05}"
            seen += len(part)
        assert seen == 3000
        assert session.execute(sa.delete(Product).where(Product.sku.like("bulk-%"))).rowcount == 3000
        session.commit()


def upserts(engine):
    with engine.begin() as conn:
        def upsert(sku, title, price):
            new = insert(Product).values(sku=sku, title=title, price=price, id=uuid.uuid4())
            new = new.on_conflict_do_update(
                index_elements=["sku"],
                set_={"title": new.excluded.title, "stock": Product.stock + 1},
                where=Product.price <= new.excluded.price,
            )
            return conn.execute(new.returning(Product.title, Product.stock)).all()

        assert upsert("u1", "first", D(5)) == [("first", 0)]
        assert upsert("u1", "second", D(6)) == [("second", 1)]
        assert upsert("u1", "third", D(1)) == []
        several = insert(Product).values([{"sku": s, "title": s, "price": 1, "id": uuid.uuid4()} for s in ("u1", "u2", "u3")])
        done = conn.execute(several.on_conflict_do_nothing(constraint="uq_product_sku").returning(Product.sku)).scalars().all()
        assert sorted(done) == ["u2", "u3"]
        conn.execute(sa.delete(Product).where(Product.sku.in_(["u1", "u2", "u3"])))


def transactions(engine):
    with Session(engine) as session:
        with session.begin():
            session.add(Customer(email="kept@example.org", full_name="kept"))
            session.flush()
            try:
                with session.begin_nested():
                    session.add(Customer(email="kept@example.org", full_name="twice"))
            except sa.exc.IntegrityError:
                pass
            with session.begin_nested() as inner:
                session.add(Customer(email="undone@example.org", full_name="undone"))
                session.flush()
                with session.begin_nested():
                    session.execute(sa.update(Customer).values(phone="1"))
                inner.rollback()
            with session.begin_nested():
                session.add(Customer(email="nested@example.org", full_name="nested"))
        emails = session.scalars(sa.select(Customer.email).where(Customer.full_name != "Ada").order_by(Customer.email)).all()
        assert emails == ["kept@example.org", "nested@example.org"], emails
        assert session.scalars(sa.select(Customer.phone).distinct()).all() == [None]

    # Another's change between reading and writing: 40001 at COMMIT or before, and once more.
    ready = engine.execution_options(isolation_level="REPEATABLE READ")
    attempts = 0
    while True:
        attempts += 1
        try:
            with Session(ready) as session, session.begin():
                mine = session.scalars(sa.select(Product).where(Product.sku == "p0")).one()
                if attempts == 1:
                    with Session(ready) as other, other.begin():
                        other.scalars(sa.select(Product).where(Product.sku == "p0").with_for_update()).one().stock += 10
                mine.stock += 1
            break
        except sa.exc.OperationalError as e:
            assert e.orig.sqlstate == "40001", e
    assert attempts == 2
    with Session(engine) as session:
        assert session.scalar(sa.select(Product.stock).where(Product.sku == "p0")) == 11


def counters(engine):
    """Many at one row: with a retry none of them is lost."""
    ready = engine.execution_options(isolation_level="REPEATABLE READ")
    failures = []

    def work():
        done = 0
        while done < 10:
            try:
                with Session(ready) as session, session.begin():
                    session.scalars(sa.select(Product).where(Product.sku == "p1").with_for_update()).one().stock += 1
                done += 1
            except sa.exc.OperationalError as e:
                if e.orig.sqlstate != "40001":
                    failures.append(e)
                    return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    with Session(engine) as session:
        assert session.scalar(sa.select(Product.stock).where(Product.sku == "p1")) == 40


def pool(url):
    """A connection that is gone is noticed before it is used."""
    engine = sa.create_engine(url, pool_pre_ping=True, pool_size=2, max_overflow=0, pool_timeout=30)
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT 1")) == 1
        conn.connection.driver_connection.close()
        conn.invalidate()
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT 2")) == 2
        raw = conn.connection.driver_connection
    raw.close()
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT 3")) == 3
    with engine.connect() as one, engine.connect() as two:
        assert one.scalar(sa.text("SHOW transaction_isolation")) == two.scalar(sa.text("SHOW transaction_isolation"))
    assert engine.pool.checkedout() == 0
    engine.dispose()


def reflection(engine):
    """The whole schema read back, and made again from what was read."""
    found = sa.inspect(engine)
    assert sorted(found.get_table_names()) == ["alembic_version", "customer", "line", "order", "product"]
    assert found.get_pk_constraint("line") == {
        "constrained_columns": ["order_id", "number"], "name": "line_pkey", "comment": None, "dialect_options": {"postgresql_include": []},
    }, found.get_pk_constraint("line")
    assert [u["name"] for u in found.get_unique_constraints("customer")] == ["uq_customer_email"]
    assert {c["name"]: c["sqltext"] for c in found.get_check_constraints("line")}.keys() == {"ck_line_quantity"}
    indexes = {i["name"]: i for i in found.get_indexes("order")}
    assert indexes["ix_order_customer_placed"]["column_names"] == ["customer_id", "placed"], indexes
    assert indexes["ix_order_customer_placed"]["column_sorting"] == {"placed": ("desc",)}, indexes
    assert "open" in indexes["ix_order_open"]["dialect_options"]["postgresql_where"]
    assert found.get_table_comment("customer") == {"text": "who buys"}
    assert columns(engine, "customer")["id"]["identity"]["always"] is False
    assert "split_part" in columns(engine, "customer")["domain"]["computed"]["sqltext"]
    foreign = [(f["name"], f["referred_table"], f["options"]) for f in found.get_foreign_keys("line")]
    expected = [("fk_line_order_id_order", "order", {"ondelete": "CASCADE"}), ("fk_line_product_id_product", "product", {})]
    assert sorted(foreign) == (expected if FOREIGN_KEYS else []), foreign
    assert found.get_schema_names()[-1] == "public" or "public" in found.get_schema_names()
    assert found.get_view_names() == [] and found.get_sequence_names() == ["customer_id_seq", "order_id_seq"], found.get_sequence_names()
    assert found.get_materialized_view_names() == [] and found.get_temp_table_names() == []
    assert found.get_enums() == [] and found.get_domains() == []

    metadata = sa.MetaData()
    metadata.reflect(engine)
    assert set(metadata.tables) == set(found.get_table_names())
    with engine.begin() as conn:
        conn.execute(sa.text("DROP TABLE alembic_version"))
    Base.metadata.drop_all(engine)
    metadata.create_all(engine)
    again = sa.MetaData()
    again.reflect(engine)
    for name, table in metadata.tables.items():
        assert [(c.name, str(c.type), c.nullable) for c in table.columns] == [
            (c.name, str(c.type), c.nullable) for c in again.tables[name].columns
        ], name
    metadata.drop_all(engine)
    assert sa.inspect(engine).get_table_names() == []


def narrow_integers(url):
    """Models that say Integer: what is found is what was declared, under `default_int_size = 4`."""
    metadata = sa.MetaData()
    sa.Table(
        "narrow", metadata,
        sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer), sa.Column("many", sa.ARRAY(sa.Integer)),
        sa.Column("wide", sa.BigInteger), sa.Column("small", sa.SmallInteger),
    )

    def ours(name, kind, _):
        return kind != "table" or name == "narrow"

    def differences(options):
        engine = sa.create_engine(url, connect_args={"options": options} if options else {})
        with engine.connect() as conn:
            metadata.create_all(conn)
            conn.commit()
            context = MigrationContext.configure(conn, opts={"compare_type": True, "include_name": ours})
            found = compare_metadata(context, metadata)
            given = conn.execute(sa.insert(metadata.tables["narrow"]).values(n=7, many=[1, 2]).returning(sa.text("id"))).scalar()
            assert given == 1
            conn.rollback()
            metadata.drop_all(conn)
            conn.commit()
        engine.dispose()
        return found

    with sa.create_engine(url).connect() as conn:
        if "Chronos" not in conn.scalar(sa.text("SELECT version()")):
            assert differences("") == []
            return
    assert differences("-c default_int_size=4") == []
    assert len(differences("")) > 0


def main(url):
    url = url.replace("postgres://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(url)
    alembic = config(url)
    migrate(engine, alembic)
    no_difference(alembic)
    failed_migration(engine, alembic)
    reads_and_writes(engine)
    constraints(engine)
    bulk(engine)
    upserts(engine)
    transactions(engine)
    counters(engine)
    pool(url)
    narrow_integers(url)
    no_difference(alembic)
    reflection(engine)
    print("alembic: ok")


main(sys.argv[1])
