import decimal
import uuid

import django.contrib.postgres.fields
import django.core.serializers.json
import django.db.models.deletion
from django.db import migrations, models

from orm.mode import FOREIGN_KEYS, TRANSACTIONAL_DDL


class Migration(migrations.Migration):
    initial = True
    atomic = TRANSACTIONAL_DDL
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Author",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                ("born", models.DateField(blank=True, null=True)),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.CreateModel(
            name="Book",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("title", models.CharField(db_index=True, max_length=80)),
                ("slug", models.SlugField(unique=True)),
                ("price", models.DecimalField(decimal_places=2, default=decimal.Decimal("0"), max_digits=8)),
                ("pages", models.SmallIntegerField(null=True)),
                ("facts", models.JSONField(default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                (
                    "words",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=30), default=list, size=None
                    ),
                ),
                ("added", models.DateTimeField(auto_now_add=True)),
                ("cover", models.BinaryField(null=True)),
                ("weight", models.FloatField(null=True)),
                ("shelf", models.CharField(default="", max_length=10)),
            ],
        ),
        migrations.CreateModel(
            name="Credit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveSmallIntegerField(default=1)),
                (
                    "author",
                    models.ForeignKey(
                        db_constraint=FOREIGN_KEYS,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="django_app.author",
                    ),
                ),
                (
                    "book",
                    models.ForeignKey(
                        db_constraint=FOREIGN_KEYS,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="django_app.book",
                    ),
                ),
            ],
            options={"unique_together": {("author", "book")}},
        ),
        migrations.AddField(
            model_name="book",
            name="authors",
            field=models.ManyToManyField(related_name="books", through="django_app.Credit", to="django_app.author"),
        ),
        migrations.CreateModel(name="Note", fields=[("id", models.BigAutoField(primary_key=True)), ("text", models.TextField())]),
    ]
