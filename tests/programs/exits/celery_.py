# preload: from celery import Celery
from celery import Celery

app = Celery("x", broker="memory://")


@app.task
def add(a, b):
    return a + b


print(add.apply(args=(1, 2)).get())
