"""A library: authors, books, members, loans."""

import decimal
import uuid

from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from orm.mode import FOREIGN_KEYS


class Author(models.Model):
    full_name = models.CharField(max_length=200)
    born = models.DateField(null=True, blank=True)
    homepage = models.URLField(blank=True, default="")

    class Meta:
        ordering = ["full_name"]
        indexes = [models.Index(fields=["born", "full_name"], name="author_born_name")]


class Book(models.Model):
    class Kind(models.TextChoices):
        NOVEL = "n", "Novel"
        POEMS = "p", "Poems"
        OTHER = "o", "Other"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    title = models.CharField(max_length=120, db_index=True)
    slug = models.SlugField(unique=True)
    kind = models.CharField(max_length=1, choices=Kind.choices, default=Kind.NOVEL)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=decimal.Decimal("0"))
    pages = models.IntegerField(null=True)
    facts = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    words = ArrayField(models.CharField(max_length=30), default=list)
    authors = models.ManyToManyField(Author, through="Credit", related_name="books")
    added = models.DateTimeField(auto_now_add=True)
    cover = models.BinaryField(null=True)
    weight = models.FloatField(null=True)
    reading_time = models.DurationField(null=True)
    opens = models.TimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(price__gte=0), name="book_price_not_negative"),
            models.UniqueConstraint(fields=["title", "kind"], name="book_title_kind"),
        ]


class Credit(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, db_constraint=FOREIGN_KEYS)
    book = models.ForeignKey(Book, models.CASCADE, db_constraint=FOREIGN_KEYS)
    position = models.PositiveSmallIntegerField(default=1)

    class Meta:
        unique_together = [("author", "book")]


class Member(models.Model):
    email = models.EmailField(unique=True)
    active = models.BooleanField(default=True)
    number = models.PositiveIntegerField(null=True, unique=True)
    friends = models.ManyToManyField("self", through="Friendship")


class Friendship(models.Model):
    one = models.ForeignKey(Member, models.CASCADE, related_name="+", db_constraint=FOREIGN_KEYS)
    other = models.ForeignKey(Member, models.CASCADE, related_name="+", db_constraint=FOREIGN_KEYS)


class Loan(models.Model):
    book = models.ForeignKey(Book, models.PROTECT, related_name="loans", db_constraint=FOREIGN_KEYS)
    member = models.ForeignKey(Member, models.CASCADE, related_name="loans", db_constraint=FOREIGN_KEYS)
    since = models.DateTimeField()
    returned = models.DateTimeField(null=True)
    fee = models.DecimalField(max_digits=8, decimal_places=2, default=0)

    class Meta:
        indexes = [
            models.Index(fields=["member", "-since"], name="loan_member_since"),
            models.Index(fields=["since"], condition=models.Q(returned__isnull=True), name="loan_open"),
        ]
