"""Many jobs on many processes, and one table of what they came to.

This room does not know what a job is: a function of it returns a row. `engines` run the jobs,
`folder` keeps their rows, `summary` says what they come to.
"""
