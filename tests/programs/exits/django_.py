# preload: import django; import django.db.models; import django.http; import django.test
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
)
django.setup()
from django.db import connection

with connection.cursor() as cursor:
    cursor.execute("select 1")
    print(cursor.fetchone())
