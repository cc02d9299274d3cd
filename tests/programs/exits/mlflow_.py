# preload: import mlflow
import mlflow

mlflow.set_tracking_uri("file:./runs")
print(mlflow.get_tracking_uri())
