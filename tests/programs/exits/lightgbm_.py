# preload: import lightgbm
import lightgbm
import numpy

x = numpy.arange(200.0).reshape(100, 2)
model = lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbose=-1).fit(x, x[:, 0])
print(model.predict(x).shape)
