"""Django's settings for the test; the URL of the node comes from the environment."""

import os
import urllib.parse

from orm.mode import CURSORS, FOREIGN_KEYS, TRANSACTIONAL_DDL

_url = urllib.parse.urlsplit(os.environ["CHRONOS_URL"])
_database = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": _url.hostname,
    "PORT": _url.port,
    "USER": _url.username,
    "PASSWORD": _url.password or "",
    "NAME": _url.path.lstrip("/"),
    "CONN_HEALTH_CHECKS": True,
    "CONN_MAX_AGE": None,
    "DISABLE_SERVER_SIDE_CURSORS": not CURSORS,
}
DATABASES = {
    "default": _database,
    # The same, in the isolation in which a lost race is an error.
    "strict": _database | {"OPTIONS": {"isolation_level": 2}},
}
# Django's own tables refer to each other by foreign keys, and its migrations are transactions.
_contrib = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
INSTALLED_APPS = (_contrib if FOREIGN_KEYS and TRANSACTIONAL_DDL else []) + ["orm.django_app"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
SECRET_KEY = "of a test"
