"""What a study leaves behind: its trajectory (Parquet), its report, and what MLflow gets of it."""
