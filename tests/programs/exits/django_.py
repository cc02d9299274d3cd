# preload: import django
# preload: import django.db.models
# preload: import django.http
# preload: import django.test
import django
from django.conf import settings
from django.db import connection

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
)
django.setup()
with connection.cursor() as cursor:
    cursor.execute("select 1")
    print(cursor.fetchone())
