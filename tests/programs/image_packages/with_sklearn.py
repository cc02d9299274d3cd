# varies: OMP_NUM_THREADS=1: print(sorted(x["num_threads"] for x in threadpool_info()))
# varies: SKLEARN_WORKING_MEMORY=77: print(sklearn.get_config()["working_memory"])
# draws: print(sklearn.datasets.make_classification(10)[0].sum())
# preload: import sklearn.datasets, sklearn.ensemble, sklearn.linear_model, sklearn.svm
# preload: import sklearn.pipeline, sklearn.preprocessing
# preload: import sklearn.model_selection, sklearn.cluster
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

x, y = make_classification(300, random_state=0)
forest = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(x, y)
print(forest.score(x, y), forest.feature_importances_.round(8).tolist())
print(cross_val_score(LogisticRegression(), x, y).tolist())
print(KMeans(3, random_state=0, n_init=2).fit(x).inertia_)
print(HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(x, y).score(x, y))
search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.1, 1]}, n_jobs=2)
print(search.fit(x, y).best_params_, np.round(search.best_score_, 10))
