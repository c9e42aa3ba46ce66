import django.db.models.deletion
from django.db import migrations, models

from orm.mode import FOREIGN_KEYS, TRANSACTIONAL_DDL


def reference(to, on_delete=django.db.models.deletion.CASCADE, **more):
    return models.ForeignKey(db_constraint=FOREIGN_KEYS, on_delete=on_delete, to=to, **more)


class Migration(migrations.Migration):
    atomic = TRANSACTIONAL_DDL
    dependencies = [("django_app", "0001_initial")]
    operations = [
        migrations.CreateModel(
            name="Member",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("email", models.EmailField(max_length=254, unique=True)),
                ("active", models.BooleanField(default=True)),
                ("number", models.PositiveIntegerField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Friendship",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("one", reference("django_app.member", related_name="+")),
                ("other", reference("django_app.member", related_name="+")),
            ],
        ),
        migrations.AddField(
            model_name="member",
            name="friends",
            field=models.ManyToManyField(through="django_app.Friendship", to="django_app.member"),
        ),
        migrations.CreateModel(
            name="Loan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("since", models.DateTimeField()),
                ("returned", models.DateTimeField(null=True)),
                (
                    "book",
                    reference("django_app.book", on_delete=django.db.models.deletion.PROTECT, related_name="loans"),
                ),
                ("member", reference("django_app.member", related_name="loans")),
            ],
        ),
    ]
