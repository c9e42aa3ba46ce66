"""SQLAlchemy 2 with psycopg against a node: create_all, an ORM round trip, reflection, upsert.

Usage: sqlalchemy_test.py URL
"""

import datetime as dt
import decimal
import sys
import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

UTC = dt.timezone.utc


class Base(DeclarativeBase):
    pass


class Sensor(Base):
    __tablename__ = "sensor"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(sa.String(40))
    tag: Mapped[uuid.UUID | None] = mapped_column(sa.Uuid)
    price: Mapped[decimal.Decimal | None] = mapped_column(sa.Numeric(10, 2))
    since: Mapped[dt.datetime | None] = mapped_column(sa.DateTime(timezone=True))
    facts: Mapped[dict | None] = mapped_column(sa.JSON)
    active: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.true())


class Reading(Base):
    __tablename__ = "reading"
    sensor_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[dt.datetime] = mapped_column(sa.DateTime(timezone=True), primary_key=True)
    value: Mapped[float] = mapped_column(sa.Double)


def round_trip(engine):
    tag = uuid.uuid4()
    start = dt.datetime(2024, 1, 1, tzinfo=UTC)
    with Session(engine) as session:
        session.add(Sensor(id=1, name="one", tag=tag, price=decimal.Decimal("12.50"), since=start, facts={"a": [1]}))
        session.add_all(Sensor(id=n, name=f"n{n}") for n in range(2, 30))
        session.add_all(Reading(sensor_id=n % 3 + 1, at=start + dt.timedelta(minutes=n), value=n / 2) for n in range(90))
        session.commit()
    with Session(engine) as session:
        one = session.get(Sensor, 1)
        assert (one.name, one.tag, one.price, one.since, one.facts, one.active) == (
            "one", tag, decimal.Decimal("12.50"), start, {"a": [1]}, True)
        one.name = "uno"
        session.delete(session.get(Sensor, 29))
        session.commit()
    with Session(engine) as session:
        assert session.scalars(sa.select(Sensor.name).where(Sensor.id == 1)).one() == "uno"
        assert session.scalar(sa.select(sa.func.count()).select_from(Sensor)) == 28
        rows = session.execute(
            sa.select(Sensor.name, sa.func.count(), sa.func.max(Reading.value))
            .join(Reading, Reading.sensor_id == Sensor.id)
            .group_by(Sensor.name)
            .order_by(Sensor.name)
            .limit(2)
        ).all()
        assert rows == [("n2", 30, 44.0), ("n3", 30, 44.5)], rows
        some = session.scalars(sa.select(Sensor).where(Sensor.id.in_([2, 3, 99])).order_by(Sensor.id)).all()
        assert [s.id for s in some] == [2, 3]
        changed = session.execute(sa.update(Sensor).where(Sensor.id > 20).values(active=False))
        assert changed.rowcount == 8
        session.rollback()


def core(engine):
    with engine.begin() as conn:
        upsert = insert(Sensor).values(id=2, name="two")
        upsert = upsert.on_conflict_do_update(index_elements=[Sensor.id], set_={"name": upsert.excluded.name})
        got = conn.execute(upsert.returning(Sensor.id, Sensor.name)).one()
        assert got == (2, "two"), got
        conn.execute(insert(Sensor).values(id=2, name="no").on_conflict_do_nothing())
    with engine.connect() as conn:
        try:
            conn.execute(sa.insert(Sensor).values(id=2, name="again"))
            raise AssertionError("a duplicate was stored")
        except sa.exc.IntegrityError:
            conn.rollback()
        assert conn.scalar(sa.text("SELECT name FROM sensor WHERE id = :id"), {"id": 2}) == "two"


def reflection(engine):
    found = sa.inspect(engine)
    assert {"sensor", "reading"} <= set(found.get_table_names())
    assert found.has_table("sensor") and not found.has_table("nowhere")
    columns = {c["name"]: c for c in found.get_columns("sensor")}
    assert list(columns) == ["id", "name", "tag", "price", "since", "facts", "active"]
    assert isinstance(columns["id"]["type"], sa.BigInteger) and not columns["id"]["nullable"]
    assert isinstance(columns["price"]["type"], sa.Numeric) and columns["price"]["type"].precision == 10
    assert columns["since"]["type"].timezone and columns["since"]["nullable"]
    assert found.get_pk_constraint("reading")["constrained_columns"] == ["sensor_id", "at"]
    assert found.get_foreign_keys("reading") == []
    table = sa.Table("reading", sa.MetaData(), autoload_with=engine)
    assert [c.name for c in table.primary_key] == ["sensor_id", "at"]


def main(url):
    engine = sa.create_engine(url.replace("postgres://", "postgresql+psycopg://", 1))
    Base.metadata.create_all(engine)
    # A second time finds them there.
    Base.metadata.create_all(engine)
    round_trip(engine)
    core(engine)
    reflection(engine)
    Base.metadata.drop_all(engine)
    assert not sa.inspect(engine).has_table("sensor")
    print("sqlalchemy: ok")


main(sys.argv[1])
