"""Several trained models as one: ensembles, stacking, folds, snapshots, and soups of their weights."""
