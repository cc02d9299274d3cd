# preload: from prophet import Prophet
import pandas
from prophet import Prophet

print(Prophet().add_seasonality("x", 7, 2).setup_dataframe is not None, pandas.Timestamp(0).year)
