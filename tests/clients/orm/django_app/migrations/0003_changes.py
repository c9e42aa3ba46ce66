"""Columns that come, columns that change their name and type, indexes and constraints."""

from django.db import migrations, models

from orm.mode import TRANSACTIONAL_DDL


class Migration(migrations.Migration):
    atomic = TRANSACTIONAL_DDL
    dependencies = [("django_app", "0002_members")]
    operations = [
        migrations.AddField("book", "reading_time", models.DurationField(null=True)),
        migrations.AddField("book", "opens", models.TimeField(null=True)),
        migrations.AddField("author", "homepage", models.URLField(blank=True, default="")),
        migrations.AddField("loan", "fee", models.DecimalField(decimal_places=2, default=0, max_digits=8)),
        migrations.RenameField("author", "name", "full_name"),
        migrations.AlterModelOptions("author", {"ordering": ["full_name"]}),
        migrations.AlterField("member", "number", models.PositiveIntegerField(null=True, unique=True)),
        migrations.AddField(
            "book",
            "kind",
            models.CharField(choices=[("n", "Novel"), ("p", "Poems"), ("o", "Other")], default="n", max_length=1),
        ),
        migrations.AddIndex("author", models.Index(fields=["born", "full_name"], name="author_born_name")),
        migrations.AddIndex("loan", models.Index(fields=["member", "-since"], name="loan_member_since")),
        migrations.AddIndex(
            "loan",
            models.Index(condition=models.Q(("returned__isnull", True)), fields=["since"], name="loan_open"),
        ),
        migrations.AddConstraint(
            "book", models.CheckConstraint(condition=models.Q(("price__gte", 0)), name="book_price_not_negative")
        ),
        migrations.AddConstraint("book", models.UniqueConstraint(fields=("title", "kind"), name="book_title_kind")),
        migrations.RenameModel("Note", "Remark"),
    ]
