"""Types that become wider. The way back makes them narrower, see `mode.py`."""

from django.db import migrations, models

from orm.mode import TRANSACTIONAL_DDL


class Migration(migrations.Migration):
    atomic = TRANSACTIONAL_DDL
    dependencies = [("django_app", "0005_drop")]
    operations = [
        migrations.AlterField("author", "full_name", models.CharField(max_length=200)),
        migrations.AlterField("book", "title", models.CharField(db_index=True, max_length=120)),
        migrations.AlterField("book", "pages", models.IntegerField(null=True)),
    ]
