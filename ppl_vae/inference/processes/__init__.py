"""Several processes that train one pair together: who they are, and which rows each takes."""
