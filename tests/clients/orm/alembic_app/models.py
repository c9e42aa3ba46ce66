"""A shop: what its tables are after the last migration."""

import datetime as dt
import decimal
import enum
import uuid

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from orm.mode import FOREIGN_KEYS

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
}


class Base(DeclarativeBase):
    metadata = sa.MetaData(naming_convention=NAMES)


def foreign_key(target, **how):
    return [sa.ForeignKey(target, **how)] if FOREIGN_KEYS else []


class Tier(enum.Enum):
    basic = "basic"
    gold = "gold"


class Customer(Base):
    __tablename__ = "customer"
    __table_args__ = {"comment": "who buys"}
    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=False), primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(120), unique=True)
    domain: Mapped[str | None] = mapped_column(sa.Text, sa.Computed("split_part(email, '@', 2)", persisted=True))
    full_name: Mapped[str] = mapped_column(sa.String(80))
    phone: Mapped[str | None] = mapped_column(sa.Text)
    tier: Mapped[Tier] = mapped_column(
        sa.Enum(Tier, native_enum=False, create_constraint=True, name="tier", length=10),
        server_default="basic",
    )
    since: Mapped[dt.datetime] = mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())
    profile: Mapped[dict | None] = mapped_column(pg.JSONB)
    tags: Mapped[list[str]] = mapped_column(pg.ARRAY(sa.Text), server_default="{}")
    orders: Mapped[list["Order"]] = relationship(
        back_populates="customer",
        primaryjoin="Customer.id == foreign(Order.customer_id)",
        order_by="Order.id",
        cascade="all, delete-orphan",
    )


class Product(Base):
    __tablename__ = "product"
    __table_args__ = (sa.CheckConstraint("price > 0", name="price"),)
    id: Mapped[uuid.UUID] = mapped_column(sa.Uuid, primary_key=True, default=uuid.uuid4)
    sku: Mapped[str] = mapped_column(sa.String(20), unique=True)
    title: Mapped[str] = mapped_column(sa.String(200))
    price: Mapped[decimal.Decimal] = mapped_column(sa.Numeric(10, 2))
    facts: Mapped[dict | None] = mapped_column(sa.JSON)
    released: Mapped[dt.date | None] = mapped_column(sa.Date)
    stock: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")


class Order(Base):
    __tablename__ = "order"
    __table_args__ = (
        sa.Index("ix_order_customer_placed", "customer_id", sa.text("placed DESC")),
        sa.Index("ix_order_open", "placed", postgresql_where=sa.text("status = 'open'")),
    )
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    customer_id: Mapped[int] = mapped_column(*foreign_key("customer.id", ondelete="CASCADE"), type_=sa.BigInteger)
    status: Mapped[str] = mapped_column(sa.String(10), server_default="open")
    placed: Mapped[dt.datetime] = mapped_column(sa.DateTime, server_default=sa.text("now()"))
    customer: Mapped[Customer] = relationship(
        back_populates="orders", primaryjoin="Customer.id == foreign(Order.customer_id)"
    )
    lines: Mapped[list["Line"]] = relationship(
        back_populates="order",
        primaryjoin="Order.id == foreign(Line.order_id)",
        order_by="Line.number",
        cascade="all, delete-orphan",
    )


class Line(Base):
    __tablename__ = "line"
    __table_args__ = (
        sa.CheckConstraint("quantity BETWEEN 1 AND 1000", name="quantity"),
        sa.UniqueConstraint("order_id", "product_id"),
    )
    order_id: Mapped[int] = mapped_column(
        *foreign_key("order.id", ondelete="CASCADE"), type_=sa.BigInteger, primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    product_id: Mapped[uuid.UUID] = mapped_column(*foreign_key("product.id"), type_=sa.Uuid, index=True)
    quantity: Mapped[int] = mapped_column(sa.BigInteger)
    price: Mapped[decimal.Decimal] = mapped_column(sa.Numeric(10, 2))
    order: Mapped[Order] = relationship(back_populates="lines", primaryjoin="Order.id == foreign(Line.order_id)")
    product: Mapped[Product] = relationship(primaryjoin="foreign(Line.product_id) == Product.id")
