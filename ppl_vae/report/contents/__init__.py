"""What stands on the page: the results of a folder, and several beside each other."""
