# varies: OMP_NUM_THREADS=1: print(sorted(x["num_threads"] for x in threadpool_info()))
# preload: import xgboost
import numpy as np
import xgboost as xgb

x = np.arange(4000.0).reshape(400, 10) % 17
y = (x.sum(axis=1) > 80).astype(int)
model = xgb.train(
    {"objective": "binary:logistic", "max_depth": 3, "seed": 1, "nthread": 2, "subsample": 0.7},
    xgb.DMatrix(x, y),
    num_boost_round=10,
)
print(model.predict(xgb.DMatrix(x)).round(6).tolist()[:20])
print(len(model.save_raw("json")), xgb.XGBClassifier(n_estimators=5).fit(x, y).score(x, y))
