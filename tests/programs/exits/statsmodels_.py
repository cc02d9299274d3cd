# preload: import statsmodels.api
import numpy
import statsmodels.api as sm

x = sm.add_constant(numpy.arange(9.0))
print(sm.OLS(numpy.arange(9.0), x).fit().params.round(3))
