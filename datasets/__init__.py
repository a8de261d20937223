"""From raw files to typed batches; knows nothing of models.

A *schema* names every feature, task, the user, the time and the split of a table. A *source* is a
schema with a lazy raw table. *Preparing* a source writes a folder of parquet shards, vocabularies
learned from the training split, ``schema.json`` and ``manifest.json``. *Reading* a prepared folder
gives :class:`datasets.batch.Batch` objects.
"""
