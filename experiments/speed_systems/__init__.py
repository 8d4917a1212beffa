"""The systems whose training steps are timed, and what else takes such steps."""
