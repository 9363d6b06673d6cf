"""Accuracy and time of ``neural_vb`` beside NUTS.

``python -m benchmarks run`` makes results, ``python -m benchmarks report`` turns them into tables.
"""
