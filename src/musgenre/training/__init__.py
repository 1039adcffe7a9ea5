"""Fine-tuning with Lightning: plans, data, stages, checkpoints and the cache of embeddings."""
