"""Methods side by side on many tables: who is best, and what Wilcoxon's test says."""

from paired_tables import paired
from scipy.stats import wilcoxon


def record(table, method, seed, loss, accuracy=0.5):
    return {
        "cell": {"table": table, "method": method, "seed": seed},
        "result": {"test_loss": loss, "test_accuracy": accuracy},
    }


def test_the_best_of_a_row_is_marked_and_rows_are_means_over_seeds():
    records = [record("wine", "ours", seed, loss) for seed, loss in enumerate([0.1, 0.3])]
    records += [record("wine", "theirs", seed, 0.4, 0.9) for seed in range(2)]
    lines = paired(records, ("ours", "theirs"), "ours").splitlines()
    assert "| wine      | 2     | **0.2000** | 0.4000 |" in lines
    assert any(line.startswith("| wine ") and "| 0.500 | **0.900** |" in line for line in lines)


def test_the_test_is_over_tables():
    losses = [(0.1, 0.2), (0.3, 0.2), (0.2, 0.6), (0.4, 0.9), (0.1, 0.4), (0.5, 0.5)]
    records = [
        record(f"table {number}", method, 0, loss)
        for number, pair in enumerate(losses)
        for method, loss in zip(("ours", "theirs"), pair, strict=True)
    ]
    p = wilcoxon([a for a, _ in losses], [b for _, b in losses]).pvalue
    text = paired(records, ("ours", "theirs"), "ours")
    (row,) = [line for line in text.splitlines() if line.startswith("| theirs") and "| 4 " in line]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["theirs", "4", "1", "1", f"{p:.2g}"]
    assert [
        line for line in text.splitlines() if line.startswith("| theirs") and "| 0 " in line and "| - " in line
    ]


def test_a_method_has_a_column_once_it_is_on_every_table():
    records = [record(table, "ours", seed, 0.1) for table in ("wine", "iris") for seed in range(2)]
    records += [record("wine", "theirs", 1, 0.2), record("iris", "theirs", 0, 0.2), record("iris", "late", 0, 0.3)]
    text = paired(records, ("ours", "theirs", "late"), "ours")
    assert text.endswith("not yet on every table: late")
    assert "| wine      | 1     | **0.1000** | 0.2000 |" in text
    assert "| mean rank |       | 1.0        | 2.0    |" in text


def test_there_is_no_table_without_records_of_ours():
    assert paired([record("wine", "theirs", 0, 0.1)], ("ours", "theirs"), "ours") == (
        "not yet on every table: ours, theirs"
    )
