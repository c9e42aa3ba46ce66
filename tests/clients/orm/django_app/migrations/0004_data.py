"""Moves data from one column to another, row by row and at once."""

from django.db import migrations
from django.db.models import F, Value
from django.db.models.functions import Concat

from orm.mode import TRANSACTIONAL_DDL


def forwards(apps, schema_editor):
    Book = apps.get_model("django_app", "Book")
    for book in Book.objects.exclude(shelf="").iterator():
        book.facts = {**book.facts, "shelf": book.shelf}
        book.save(update_fields=["facts"])
    apps.get_model("django_app", "Author").objects.filter(homepage="").update(
        homepage=Concat(Value("https://example.org/"), F("id"))
    )


def backwards(apps, schema_editor):
    Book = apps.get_model("django_app", "Book")
    for book in Book.objects.filter(facts__has_key="shelf"):
        book.shelf = book.facts.pop("shelf")
        book.save()


class Migration(migrations.Migration):
    atomic = TRANSACTIONAL_DDL
    dependencies = [("django_app", "0003_changes")]
    operations = [
        migrations.RunPython(forwards, backwards),
        migrations.RunSQL(
            "UPDATE django_app_loan SET fee = 1 WHERE returned IS NULL", "UPDATE django_app_loan SET fee = 0"
        ),
    ]
