# preload: from sklearn.linear_model import LogisticRegression
# preload: from sklearn.ensemble import RandomForestClassifier
import numpy
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

x = numpy.arange(40.0).reshape(20, 2)
y = [0] * 10 + [1] * 10
print(LogisticRegression().fit(x, y).predict(x).sum())
print(RandomForestClassifier(3, random_state=1).fit(x, y).predict(x).sum())
