# preload: import xgboost
import numpy
import xgboost

x = numpy.arange(200.0).reshape(100, 2)
print(xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(x, x[:, 0]).predict(x).shape)
