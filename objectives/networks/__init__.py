"""Networks of the tasks, as people write them: nothing here knows selftune, and nothing was written for it."""
