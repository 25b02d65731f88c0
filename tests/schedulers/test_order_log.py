"""Files of orders: each order is written once, and what a record needs is there."""

import pytest
import torch

from selftune.methods.work_orders import FollowSchedule, WorkOrder
from selftune.schedulers import order_log
from selftune.schedulers.order_log import KIND, OrderLog, read_logs
from selftune.storage.files import DamagedFile
from selftune.storage.state_file import load_state


def orders(*numbers):
    return [WorkOrder(number=number) for number in numbers]


def keep(log, there):
    """A record is written."""
    index = log.write(there)
    log.forget()
    return index


def written(folder):
    """The numbers of the orders in each file, oldest file first."""
    paths = sorted(folder.glob("orders-*"), key=lambda path: int(path.stem.partition("-")[2]))
    return [[order.number for order, _ in load_state(path, KIND)] for path in paths]


def test_every_order_is_written_once_also_where_several_members_have_it(tmp_path):
    log, there = OrderLog(tmp_path, {}), {0: orders(0, 1, 2), 1: orders(0, 1)}
    keep(log, there)
    index = keep(log, {0: [*there[0][1:], *orders(3)], 1: there[1]})
    assert written(tmp_path) == [[0, 1, 2], [3]]
    assert read_logs(tmp_path, {}, index) == {0: orders(1, 2, 3), 1: orders(0, 1)}
    assert keep(log, {0: [], 1: there[1]}) == {"files": [0], "first": {1: 0}}


def test_a_changed_order_is_written_again(tmp_path):
    log, first = OrderLog(tmp_path, {}), orders(0, 1)
    keep(log, {0: first})
    cold = WorkOrder(number=1, checkpoint=True)
    index = keep(log, {0: [first[0], cold]})
    assert read_logs(tmp_path, {}, index) == {0: [first[0], cold]}


def test_orders_of_one_number_may_differ(tmp_path):
    log, there = OrderLog(tmp_path, {}), {0: orders(0), 1: [WorkOrder(number=0, start="kept")]}
    assert read_logs(tmp_path, {}, keep(log, there)) == there


def test_equal_orders_with_tensors_are_one(tmp_path):
    def follow(value):
        return FollowSchedule(number=0, segments=((5, torch.full((2,), value)),))

    log, there = OrderLog(tmp_path, {}), {0: [follow(1.0)], 1: [follow(1.0)], 2: [follow(2.0)]}
    read = read_logs(tmp_path, {}, keep(log, there))
    assert written(tmp_path) == [[0, 0]]
    assert [log[0].segments[0][1].tolist() for log in read.values()] == [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]]


def test_files_stay_as_long_as_the_record_before_needs_them(tmp_path):
    log = OrderLog(tmp_path, {})
    keep(log, {0: orders(0)})
    before = keep(log, {0: orders(1)})
    assert written(tmp_path) == [[0], [1]]
    keep(log, {0: orders(2)})
    assert written(tmp_path) == [[1], [2]]
    assert read_logs(tmp_path, {}, before) == {0: orders(1)}


def test_many_files_are_made_one(tmp_path, monkeypatch):
    monkeypatch.setattr(order_log, "_MOST", 3)
    log, there = OrderLog(tmp_path, {}), []
    for number in range(4):
        there += orders(number)
        index = keep(log, {0: there})
    keep(log, {0: there})
    assert written(tmp_path) == [[0, 1, 2, 3]]
    assert read_logs(tmp_path, {}, index) == {0: there}


def test_a_run_that_goes_on_leaves_the_files_of_the_record_it_goes_on_from(tmp_path):
    index = keep(OrderLog(tmp_path, {}), {0: orders(4)})
    logs = read_logs(tmp_path, {}, index)
    other = OrderLog(tmp_path, {}, index, logs)
    later = keep(other, {0: [*logs[0], *orders(5)]})
    assert read_logs(tmp_path, {}, index) == {0: orders(4)}
    assert read_logs(tmp_path, {}, later) == {0: orders(4, 5)}


def test_a_missing_file_is_named(tmp_path):
    index = keep(OrderLog(tmp_path, {}), {0: orders(0)})
    (tmp_path / "orders-0.safetensors").unlink()
    with pytest.raises(DamagedFile, match=r"orders-0\.safetensors: is missing"):
        read_logs(tmp_path, {}, index)
