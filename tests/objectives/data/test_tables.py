"""Tables of numbers and categories."""

import datetime
import gzip

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from selftune.objectives.data.table_columns import MISSING
from selftune.objectives.data.tables import read_table

from selftune.errors import SettingError

ROWS = 20
COLUMNS = {
    "area": [40.0 + 3 * row for row in range(ROWS)],
    "floors": [1 + row % 3 for row in range(ROWS)],
    "walls": [("wood", "brick")[row % 2] for row in range(ROWS)],
    "garden": [row % 5 == 0 for row in range(ROWS)],
    "price": [100 + 7.5 * row for row in range(ROWS)],
    "split": ["train"] * 12 + ["validation"] * 4 + ["test"] * 4,
}


def parquet(file, **changed):
    columns = {name: values for name, values in {**COLUMNS, **changed}.items() if values is not None}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file


def csv(file, separator=",", **changed):
    columns = {name: values for name, values in {**COLUMNS, **changed}.items() if values is not None}
    rows = [columns.keys(), *zip(*columns.values(), strict=True)]
    text = "\n".join(separator.join("" if value is None else str(value) for value in row) for row in rows)
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "wt", encoding="utf-8") as out:
        out.write(text + "\n")
    return file


def refused(path, sentence, target="price", **settings):
    with pytest.raises(SettingError) as refusal:
        read_table(path, target, **settings)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a;.csv", "a.parquet"])
def test_csv_and_parquet_give_numbers_categories_and_a_target(tmp_path, name):
    separators = {"a.tsv": "\t", "a;.csv": ";"}
    file = tmp_path / name
    table = read_table(
        parquet(file) if name == "a.parquet" else csv(file, separators.get(name, ",")),
        "price",
    )
    assert table.columns == ("area", "floors", "walls", "garden")
    np.testing.assert_array_equal(table.numbers, np.stack([COLUMNS["area"], COLUMNS["floors"]], axis=1))
    assert (table.levels, table.sizes) == ((("brick", "wood"), ("False", "True")), (2, 2))
    assert table.categories[:2].tolist() == [[1, 1], [0, 0]]
    assert table.target.tolist() == COLUMNS["price"]
    assert table.classes is None
    assert table.splits["test"].tolist() == [16, 17, 18, 19]


def test_what_the_target_is_follows_from_its_values_or_is_said(tmp_path):
    file = parquet(tmp_path / "a.parquet", split=None)
    for target, classes in (
        ("walls", ("brick", "wood")),
        ("garden", ("False", "True")),
        ("floors", ("1", "2", "3")),
    ):
        table = read_table(file, target)
        assert (table.classes, table.target.dtype) == (classes, torch.int64)
        assert target not in table.columns
    assert read_table(file, "floors").target[:4].tolist() == [0, 1, 2, 0]
    assert read_table(file, "floors", kind="regression").target.tolist() == COLUMNS["floors"]
    refused(file, "kind: ", "walls", kind="regression")
    refused(file, "holds fractions, so they are no classes", kind="classification")
    refused(file, "kind: must be classification or regression", kind="ranking")
    many = parquet(tmp_path / "b.parquet", price=list(range(ROWS)), split=None)
    assert len(read_table(many, "price", split={"validation": 0.1, "test": 0.1}).classes) == ROWS
    longer = tmp_path / "c.csv"
    longer.write_text("x,y\n" + "".join(f"{number},{number}\n" for number in range(21)))
    assert read_table(longer, "y").classes is None


def test_numbers_may_be_categories_and_columns_may_be_left_out(tmp_path):
    table = read_table(parquet(tmp_path / "a.parquet"), "price", categorical=["floors"], ignore=["area"])
    assert table.columns == ("floors", "walls", "garden")
    assert table.numbers.shape == (ROWS, 0)
    assert table.levels[0] == ("1", "2", "3")


@pytest.mark.parametrize("write", [csv, parquet])
def test_missing_numbers_are_the_training_mean_and_said(tmp_path, write):
    area = [None if row in (3, 17) else value for row, value in enumerate(COLUMNS["area"])]
    table = read_table(write(tmp_path / "a", area=area), "price")
    assert table.columns == ("area", "floors", "area is missing", "walls", "garden")
    mean = np.mean([value for value in area[:12] if value is not None])
    expected = [mean if value is None else value for value in area]
    np.testing.assert_allclose(table.numbers[:, 0], np.float32(expected))
    assert table.numbers[:, 2].nonzero().flatten().tolist() == [3, 17]


@pytest.mark.parametrize("write", [csv, parquet])
def test_missing_categories_and_those_that_training_lacks_are_one_more(tmp_path, write):
    walls = [*COLUMNS["walls"][:19], "glass"]
    walls[2] = "?" if write is csv else None
    table = read_table(write(tmp_path / "a", walls=walls), "price")
    assert table.levels[0] == ("brick", "wood", MISSING)
    assert (table.categories[:, 0] == 2).nonzero().flatten().tolist() == [2, 19]


def test_signals_become_a_column_for_every_place(tmp_path):
    signals = pyarrow.array(np.arange(3 * ROWS).reshape(ROWS, 3).tolist(), pyarrow.list_(pyarrow.float32(), 3))
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"x": signals, "label": [0, 1] * 10}), file)
    table = read_table(file, "label")
    assert table.columns == ("x.0", "x.1", "x.2")
    np.testing.assert_array_equal(table.numbers, np.arange(3 * ROWS).reshape(ROWS, 3))


def test_names_that_are_no_columns_are_refused_with_the_nearest(tmp_path):
    file = csv(tmp_path / "a.csv")
    refused(file, f"target: {file} has no column 'prize'; did you mean price?", "prize")
    refused(file, "categorical: ", categorical=["flors"])
    refused(file, "did you mean area?", ignore=["aera"])
    refused(file, "categorical: 'price' is the target", categorical=["price"])
    refused(file, "the column 'split' says what is for training", categorical=["split"])
    refused(file, "the column 'split' says what is for training", "split")


def test_values_that_cannot_be_used_are_refused_with_row_and_column(tmp_path):
    file = tmp_path / "a.parquet"
    for changed, sentence in (
        ({"price": [*COLUMNS["price"][:19], None]}, "row 19: the target 'price' is None"),
        ({"price": [float("nan"), *COLUMNS["price"][1:]]}, "row 0: the target 'price' is nan"),
        ({"price": [float("inf"), *COLUMNS["price"][1:]]}, "row 0: the target 'price' is inf"),
        ({"area": [float("-inf"), *COLUMNS["area"][1:]]}, "row 0: the column 'area' is infinite"),
        ({"area": [None] * 12 + COLUMNS["area"][12:]}, "the column 'area' has no value in the training rows"),
        ({"split": ["left"] * ROWS}, "row 0: the column split holds 'left'"),
        ({"area": [datetime.date(2020, 1, 1)] * ROWS}, "the column 'area' holds date32[day], neither"),
    ):
        refused(parquet(file, **changed), sentence)
    late = parquet(file, walls=[*COLUMNS["walls"][:19], "late"])
    refused(late, "class 'late' has no row in the train split", "walls")
    dates = parquet(file, area=[datetime.date(2020, 1, 1)] * ROWS)
    assert read_table(dates, "price", ignore=["area"]).columns[0] == "floors"
    refused(parquet(file, walls=["wood"] * ROWS), "has a single class, 'wood'", "walls")
    only = parquet(file, area=None, floors=None, walls=None, garden=None)
    refused(only, "has no column beside the target")


def test_files_that_are_no_tables_are_refused(tmp_path):
    refused(tmp_path / "none.csv", f"there is no file {tmp_path}/none.csv; give a CSV file")
    refused(tmp_path, "is a folder; give a CSV file")
    file = tmp_path / "a.csv"
    for content, sentence in (
        ("", "is no table: "),
        ("a,price\n", "has no rows"),
        ("a,price\n1,2\n1\n", "is no table: "),
        ("a,a,price\n1,2,3\n", "has two columns named 'a'"),
        ("\xe4,price\n1,2\n", "is no table: "),
        ("1,2,3\n4,5,6\n", "the first line holds numbers"),
    ):
        file.write_text(content, encoding="latin-1")
        refused(file, sentence)
