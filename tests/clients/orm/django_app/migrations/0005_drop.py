from django.db import migrations, models

from orm.mode import TRANSACTIONAL_DDL


class Migration(migrations.Migration):
    atomic = TRANSACTIONAL_DDL
    dependencies = [("django_app", "0004_data")]
    operations = [
        migrations.RemoveField("book", "shelf"),
        migrations.DeleteModel("Remark"),
    ]
