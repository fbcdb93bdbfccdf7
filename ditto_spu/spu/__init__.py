"""Connect to SPU: its compiler, its values and the steps of a plan that it runs.

Only this package and the `stock_spu` modules of ditto_spu/compare import SPU.
"""
