# draws: print(optuna.create_study().ask().suggest_float("x", 0, 1))
# draws: print(optuna.samplers.RandomSampler()._rng.rng.rand())
# preload: import optuna
import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial):
    x = trial.suggest_float("x", -10, 10)
    return (x - trial.suggest_int("n", 0, 5)) ** 2


for sampler in (optuna.samplers.TPESampler(seed=1), optuna.samplers.RandomSampler(seed=2)):
    study = optuna.create_study(sampler=sampler, storage="sqlite://")
    study.optimize(objective, n_trials=5, n_jobs=1)
    print(study.best_params, study.best_value, [t.params for t in study.trials])
