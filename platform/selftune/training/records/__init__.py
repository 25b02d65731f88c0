"""The methods of this package, a record each; see ``selftune.training.method_record``."""
