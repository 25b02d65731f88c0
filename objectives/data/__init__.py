"""Data sets of the tasks, and the small networks that go with them."""
