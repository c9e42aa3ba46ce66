"""A library on Django, its tables made and unmade by migrations, as an application does it.

Usage: django_test.py URL
"""

import datetime as dt
import decimal
import io
import os
import pathlib
import re
import sys
import threading

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here))
os.environ["CHRONOS_URL"] = sys.argv[1]
os.environ["DJANGO_SETTINGS_MODULE"] = "orm.django_app.settings"

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, OperationalError, connection, connections, models, transaction  # noqa: E402
from django.db.models import Avg, Count, Exists, F, OuterRef, Prefetch, Q, Subquery, Sum, Window  # noqa: E402
from django.db.models.functions import Coalesce, Length, Lower, RowNumber, TruncMonth  # noqa: E402

from orm.django_app.models import Author, Book, Credit, Friendship, Loan, Member  # noqa: E402
from orm.mode import CURSORS, FOREIGN_KEYS, NARROWER_TYPES, TRANSACTIONAL_DDL  # noqa: E402

UTC = dt.timezone.utc
D = decimal.Decimal
APP = "django_app"


def call(*arguments, **options):
    out = io.StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


def tables():
    with connection.cursor() as cursor:
        return sorted(t.name for t in connection.introspection.get_table_list(cursor) if t.name.startswith(APP))


def migrate():
    call("migrate", APP, "0002", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_app_author (name, born) VALUES ('Ada', '1815-12-10'), ('Bob', NULL) RETURNING id")
        ada, bob = (row[0] for row in cursor.fetchall())
        cursor.execute(
            "INSERT INTO django_app_book (id, title, slug, price, facts, words, added, shelf) "
            "VALUES (gen_random_uuid(), 'Notes', 'notes', 1.5, '{\"a\": 1}', '{x,y}', now(), 'S1') RETURNING id"
        )
        book = cursor.fetchone()[0]
        cursor.execute("INSERT INTO django_app_credit (author_id, book_id, position) VALUES (%s, %s, 1)", [ada, book])
        cursor.execute("INSERT INTO django_app_member (email, active) VALUES ('m@example.org', true) RETURNING id")
        member = cursor.fetchone()[0]
        cursor.execute(
            "INSERT INTO django_app_loan (since, book_id, member_id) VALUES (now(), %s, %s)", [book, member]
        )
    call("migrate", APP, "0005", verbosity=0)
    book = Book.objects.get()
    assert book.facts == {"a": 1, "shelf": "S1"} and book.kind == "n" and book.words == ["x", "y"], vars(book)
    assert [a.homepage for a in Author.objects.all()] == [f"https://example.org/{ada}", f"https://example.org/{bob}"]
    assert Loan.objects.get().fee == 1
    assert "django_app_remark" not in tables()
    if NARROWER_TYPES:
        call("migrate", APP, "0006", verbosity=0)
    call("migrate", APP, "0002", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT shelf, facts FROM django_app_book")
        assert cursor.fetchone()[0] == "S1"
        cursor.execute("SELECT name FROM django_app_author ORDER BY name")
        assert [row[0] for row in cursor.fetchall()] == ["Ada", "Bob"]
    call("migrate", APP, "zero", verbosity=0)
    assert tables() == [], tables()
    call("migrate", verbosity=0)
    assert "[X] 0006_wider" in call("showmigrations", APP)
    assert call("migrate", "--check", verbosity=0) == ""


def no_difference():
    """Nothing to migrate, and what the database says of itself fits the models."""
    call("makemigrations", "--check", "--dry-run")
    call("check", database=["default"])
    assert call("sqlmigrate", APP, "0001").count("CREATE TABLE") >= 4
    found = call("inspectdb")
    assert "Unable to inspect" not in found and "# The error was" not in found, found

    def declared(model, field):
        body = re.search(rf"class {model}\(models\.Model\):(.*?)\n\n\n", found + "\n\n\n", re.S)
        assert body, (model, found)
        line = re.search(rf"^    {field} = (.*)$", body[1], re.M)
        assert line, (model, field, body[1])
        return line[1]

    assert declared("DjangoAppAuthor", "full_name") == "models.CharField(max_length=200)"
    assert declared("DjangoAppAuthor", "born") == "models.DateField(blank=True, null=True)"
    assert declared("DjangoAppBook", "id") == "models.UUIDField(primary_key=True)"
    assert declared("DjangoAppBook", "price") == "models.DecimalField(max_digits=8, decimal_places=2)"
    assert declared("DjangoAppBook", "facts") == "models.JSONField()"
    assert declared("DjangoAppBook", "slug") == "models.CharField(unique=True, max_length=50)"
    assert declared("DjangoAppBook", "reading_time") == "models.DurationField(blank=True, null=True)"
    assert declared("DjangoAppMember", "active") == "models.BooleanField()"
    assert declared("DjangoAppLoan", "id") == "models.BigAutoField(primary_key=True)"
    if FOREIGN_KEYS:
        assert declared("DjangoAppLoan", "member") == "models.ForeignKey('DjangoAppMember', models.DO_NOTHING)"
    assert "unique_together = (('title', 'kind'),)" in found, found

    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, "django_app_book")
        assert constraints["book_price_not_negative"]["check"] and constraints["book_title_kind"]["unique"]
        assert constraints["book_title_kind"]["columns"] == ["title", "kind"]
        assert constraints["django_app_book_pkey"]["primary_key"]
        loans = connection.introspection.get_constraints(cursor, "django_app_loan")
        assert loans["loan_member_since"]["orders"] == ["ASC", "DESC"], loans["loan_member_since"]
        assert loans["loan_member_since"]["columns"] == ["member_id", "since"] and loans["loan_open"]["index"]
        assert connection.introspection.get_primary_key_column(cursor, "django_app_loan") == "id"
        sequences = connection.introspection.get_sequences(cursor, "django_app_loan")
        assert [(s["table"], s["column"]) for s in sequences] == [("django_app_loan", "id")], sequences


def writes_and_reads():
    authors = [Author.objects.create(full_name=f"author {n}", born=dt.date(1900 + n, 1, 1)) for n in range(4)]
    assert len({a.pk for a in authors}) == 4 and None not in {a.pk for a in authors}
    books = [
        Book(
            title=f"book {n}", slug=f"book-{n}", price=D("9.50") + n, pages=100 * n, kind="np"[n % 2],
            facts={"n": n, "tags": ["a", "b"][: n % 3], "deep": {"x": [n]}}, words=["w", f'q"{n}', "é, {}"],
            cover=bytes(range(n)), weight=n / 4, reading_time=dt.timedelta(hours=n, minutes=30), opens=dt.time(8, n),
        )
        for n in range(8)
    ]
    Book.objects.bulk_create(books, batch_size=3)
    Credit.objects.bulk_create(
        [Credit(author=authors[n % 4], book=book, position=1) for n, book in enumerate(books)]
        + [Credit(author=authors[0], book=books[1], position=2)]
    )
    again = Book.objects.get(slug="book-3")
    fields = ("title", "price", "pages", "kind", "facts", "words", "weight", "reading_time", "opens")
    for field in fields:
        assert getattr(again, field) == getattr(books[3], field), field
    assert bytes(again.cover) == bytes(range(3)) and again.added.tzinfo is not None

    with_authors = Book.objects.prefetch_related(Prefetch("authors", Author.objects.order_by("pk"))).order_by("slug")
    assert [[a.full_name for a in b.authors.all()] for b in with_authors][1] == ["author 0", "author 1"]
    assert authors[0].books.filter(kind="n").count() == 2
    assert Book.objects.filter(authors__full_name__endswith="0").values("slug").distinct().count() == 3

    # JSON, arrays, texts, times.
    assert Book.objects.filter(facts__n__gt=5).count() == 2
    assert Book.objects.filter(facts__deep__x__0=4).get().slug == "book-4"
    assert Book.objects.filter(facts__tags__contains=["b"]).count() == 2
    assert Book.objects.filter(facts__has_key="deep").count() == 8
    assert Book.objects.filter(facts__contains={"n": 1}).count() == 1
    assert Book.objects.filter(words__contains=['q"2']).count() == 1
    assert Book.objects.filter(words__overlap=['q"2', 'q"3']).count() == 2
    assert Book.objects.filter(words__len=3).count() == 8
    assert Book.objects.filter(title__icontains="BOOK 1").count() == 1
    assert Book.objects.filter(title__istartswith="Book").count() == 8
    assert Book.objects.filter(title__regex=r"^book [0-3]$").count() == 4
    assert Book.objects.filter(slug__in=["book-1", "book-2", "none"]).count() == 2
    assert Book.objects.filter(added__year=dt.datetime.now(UTC).year).count() == 8
    assert Book.objects.filter(reading_time__gte=dt.timedelta(hours=6)).count() == 2
    assert Author.objects.filter(born__range=(dt.date(1901, 1, 1), dt.date(1902, 12, 31))).count() == 2
    assert Author.objects.dates("born", "year")[0] == dt.date(1900, 1, 1)
    assert Book.objects.filter(Q(pages__lt=200) | ~Q(kind="n"), price__lt=100).count() == 5

    totals = Book.objects.values("kind").annotate(n=Count("id"), price=Sum("price"), pages=Avg("pages")).order_by("kind")
    assert [(t["kind"], t["n"], t["price"], t["pages"]) for t in totals] == [("n", 4, D("50.00"), 300), ("p", 4, D("54.00"), 400)], list(totals)
    assert Book.objects.aggregate(total=Sum(F("price") * 2, output_field=models.DecimalField()))["total"] == D("208.00")
    busy = Author.objects.annotate(n=Count("books")).filter(n__gt=2)
    assert [a.full_name for a in busy] == ["author 0"]
    newest = Credit.objects.filter(author=OuterRef("pk")).order_by("-book__price")
    priciest = Author.objects.annotate(best=Subquery(newest.values("book__slug")[:1])).order_by("pk")
    assert [a.best for a in priciest] == ["book-4", "book-5", "book-6", "book-7"]
    assert Author.objects.filter(Exists(Book.objects.filter(authors=OuterRef("pk"), pages=700))).get() == authors[3]
    ranked = Book.objects.annotate(nth=Window(RowNumber(), partition_by="kind", order_by=F("price").desc())).order_by("slug")
    assert [b.nth for b in ranked] == [4, 4, 3, 3, 2, 2, 1, 1]
    assert Book.objects.annotate(l=Length("title"), low=Lower("title")).values_list("l", "low").first() is not None
    assert Book.objects.annotate(p=Coalesce("pages", 0)).order_by("-p").values_list("p", flat=True)[0] == 700
    assert Book.objects.annotate(m=TruncMonth("added")).values("m").annotate(n=Count("id")).get()["n"] == 8
    union = Author.objects.values_list("full_name").union(Book.objects.values_list("title")).order_by("full_name")
    assert len(union) == 12
    assert [b.slug for b in Book.objects.order_by("-price")[2:4]] == ["book-5", "book-4"]
    assert "django_app_book" in Book.objects.all().explain()

    # Changes.
    assert Book.objects.filter(kind="p").update(price=F("price") + 1, pages=F("pages") * 2) == 4
    books[2].title = "renamed"
    books[3].facts = {"new": True}
    assert Book.objects.bulk_update([books[2], books[3]], ["title", "facts"]) == 2
    assert Book.objects.get(pk=books[2].pk).title == "renamed"
    same, created = Author.objects.get_or_create(full_name="author 1")
    assert same == authors[1] and not created
    same, created = Author.objects.update_or_create(full_name="author 9", defaults={"homepage": "h"})
    assert created and same.homepage == "h"
    Member.objects.bulk_create([Member(email=f"m{n}@example.org", number=n) for n in range(5)])
    Member.objects.bulk_create([Member(email="m1@example.org", number=99)], ignore_conflicts=True)
    assert Member.objects.get(email="m1@example.org").number == 1
    Member.objects.bulk_create(
        [Member(email="m1@example.org", number=11), Member(email="m9@example.org", number=9)],
        update_conflicts=True, unique_fields=["email"], update_fields=["number"],
    )
    assert Member.objects.get(email="m1@example.org").number == 11 and Member.objects.count() == 6
    one, two = Member.objects.order_by("email")[:2]
    Friendship.objects.create(one=one, other=two)
    assert [m.email for m in one.friends.all()] == [two.email]
    now = dt.datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)
    loan = Loan.objects.create(book=books[0], member=one, since=now)
    assert Loan.objects.select_related("book", "member").get().member.email == one.email
    loan.refresh_from_db()
    assert loan.since == now
    try:
        books[0].delete()
        raise AssertionError("a lent book was deleted")
    except models.ProtectedError:
        pass
    assert one.delete()[0] == 3
    assert Loan.objects.count() == 0 and Friendship.objects.count() == 0


def constraints():
    def refused(code, act):
        try:
            with transaction.atomic():
                act()
        except IntegrityError as e:
            assert e.__cause__.sqlstate == code, e
            return
        raise AssertionError(f"not refused: {code}")

    refused("23505", lambda: Book.objects.create(title="x", slug="book-1"))
    refused("23514", lambda: Book.objects.filter(slug="book-1").update(price=-1))
    refused("23502", lambda: Book.objects.filter(slug="book-1").update(title=None))
    refused("23505", lambda: Member.objects.filter(email="m2@example.org").update(email="m3@example.org"))
    if FOREIGN_KEYS:
        def dangling():
            Loan.objects.create(book_id=Book.objects.first().pk, member_id=-1, since=dt.datetime.now(UTC))
            connection.check_constraints()

        refused("23503", dangling)
        with transaction.atomic():
            # Deferred: what it refers to comes later.
            member = Member(id=777, email="later@example.org")
            Loan.objects.create(book=Book.objects.first(), member_id=777, since=dt.datetime.now(UTC))
            member.save(force_insert=True)
        member.delete()


def transactions():
    start = Author.objects.count()

    class Enough(Exception):
        pass

    try:
        with transaction.atomic():
            Author.objects.create(full_name="gone")
            raise Enough
    except Enough:
        pass
    with transaction.atomic():
        Author.objects.create(full_name="outer")
        try:
            with transaction.atomic():
                Author.objects.create(full_name="inner")
                with transaction.atomic():
                    Author.objects.create(full_name="innermost")
                raise Enough
        except Enough:
            pass
        try:
            with transaction.atomic():
                Book.objects.create(title="x", slug="book-1")
        except IntegrityError:
            pass
        with transaction.atomic():
            Author.objects.create(full_name="kept")
        mark = transaction.savepoint()
        Author.objects.all().delete()
        transaction.savepoint_rollback(mark)
    assert Author.objects.count() == start + 2
    done = []
    with transaction.atomic():
        transaction.on_commit(lambda: done.append(1))
    assert done == [1]


def races():
    """A lost race is 40001; whoever tries again wins."""
    Member.objects.update_or_create(email="counter@example.org", defaults={"number": 1000})
    lost = []

    def work():
        done = 0
        while done < 8:
            try:
                with transaction.atomic(using="strict"):
                    member = Member.objects.using("strict").select_for_update().get(email="counter@example.org")
                    member.number += 1
                    member.save(using="strict")
                done += 1
            except OperationalError as e:
                if e.__cause__.sqlstate != "40001":
                    lost.append(e)
                    break
        connections["strict"].close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost, lost
    assert Member.objects.get(email="counter@example.org").number == 1032
    with transaction.atomic():
        assert Member.objects.select_for_update(of=("self",)).filter(email="counter@example.org").count() == 1


def many_rows():
    Author.objects.bulk_create([Author(full_name=f"bulk {n:05}") for n in range(3000)], batch_size=1000)
    bulk = Author.objects.filter(full_name__startswith="bulk")
    assert sum(1 for _ in bulk.iterator(chunk_size=500)) == 3000
    assert bulk.in_bulk(list(bulk.values_list("pk", flat=True)[:700])).__len__() == 700
    assert bulk.delete()[0] == 3000
    connection.close_if_unusable_or_obsolete()
    assert connection.is_usable()
    # The server ends the connection, and the next request opens another.
    connection.connection.close()
    connection.close_if_unusable_or_obsolete()
    django.db.close_old_connections()
    assert Author.objects.count() > 0


def own_tables():
    """Django's own applications, with their foreign keys."""
    if not (FOREIGN_KEYS and TRANSACTIONAL_DDL):
        return
    from django.contrib.auth.models import Group, Permission, User

    user = User.objects.create_user("ada", "ada@example.org", "secret")
    user.groups.add(Group.objects.create(name="staff"))
    user.user_permissions.add(*Permission.objects.filter(codename__startswith="add_")[:3])
    assert User.objects.get(username="ada").check_password("secret") and user.user_permissions.count() == 3
    user.delete()


def main():
    migrate()
    no_difference()
    writes_and_reads()
    constraints()
    transactions()
    races()
    many_rows()
    own_tables()
    call("flush", interactive=False, verbosity=0)
    assert Book.objects.count() == 0
    if NARROWER_TYPES:
        call("migrate", APP, "zero", verbosity=0)
    print("django: ok")


main()
