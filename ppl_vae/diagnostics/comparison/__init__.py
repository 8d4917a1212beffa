"""Estimators side by side, and what each does with every site."""
