"""A method of one object is another one for a while, and itself afterwards."""

import pytest

from selftune.integrations.replaced import replaced


class Counter:
    def count(self):
        return 1


def doubled(count):
    return lambda: 2 * count()


def test_only_this_object_is_changed():
    one, other = Counter(), Counter()
    with replaced(one, "count", doubled):
        assert (one.count(), other.count()) == (2, 1)
    assert one.count() == 1
    assert "count" not in vars(one)


def test_a_replacement_that_was_there_comes_back():
    one = Counter()
    with replaced(one, "count", doubled):
        with replaced(one, "count", doubled):
            assert one.count() == 4
        assert one.count() == 2


def test_it_comes_back_after_an_error():
    one = Counter()
    with pytest.raises(RuntimeError), replaced(one, "count", doubled):
        raise RuntimeError
    assert one.count() == 1
