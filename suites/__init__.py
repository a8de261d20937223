"""Experiments as data: a matrix over architectures, datasets, budgets and seeds.

A suite is a YAML file, shipped here or a user's own by path, validated into :class:`suites.suite.Suite`.
Nothing here computes: :mod:`suites.run` asks the harness.
"""
