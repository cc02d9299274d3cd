# varies: OMP_NUM_THREADS=1: print(sorted(x["num_threads"] for x in threadpool_info()))
# preload: import lightgbm
import lightgbm as lgb
import numpy as np

x = np.arange(4000.0).reshape(400, 10) % 17
y = (x.sum(axis=1) > 80).astype(int)
options = {"objective": "binary", "verbose": -1, "num_threads": 2, "deterministic": True}
model = lgb.train({**options, "bagging_fraction": 0.7}, lgb.Dataset(x, y), 10)
print(model.predict(x).round(8).tolist()[:20])
print(lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(x, y).score(x, y))
