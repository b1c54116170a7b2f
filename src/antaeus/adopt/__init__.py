"""The guard inside other people's trainers: transformers and TRL, verl, GEPA. Each file stands alone and imports its library lazily."""
