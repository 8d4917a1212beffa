"""The referee: closed forms that everything else is judged against.

Formulas only. This package imports torch and the checks, never pyro, a model or an estimator, so
that it shares no code with what it judges.
"""
