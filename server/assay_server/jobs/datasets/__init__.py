"""Datasets: uploads, imports, deletion, and scoring what is missing of them."""
