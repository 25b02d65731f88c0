import pytest
import torch

from selftune.data.loading import Loading
from selftune.errors import SettingError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("memory", "amount"), [(0, 0), (1000, 1000), ("1.5KB", 1500), ("2 GiB", 2 * 2**30), ("3mb", 3 * 10**6)]
)
def test_memory_is_bytes_or_a_text(memory, amount):
    assert Loading(memory=memory).bytes_on(CPU) == amount


def test_memory_may_be_a_share_of_the_device():
    whole = Loading(memory="100%").bytes_on(CPU)
    assert abs(Loading(memory="25%").bytes_on(CPU) - whole // 4) <= 1


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("memory", {"memory": "lots"}),
        ("memory", {"memory": "12 parsecs"}),
        ("memory", {"memory": "120%"}),
        ("memory", {"memory": -1}),
        ("workers", {"workers": -1}),
        ("workers", {"workers": 1.5}),
    ],
)
def test_what_is_no_setting_is_refused(key, settings):
    with pytest.raises(SettingError) as refused:
        Loading(**settings)
    assert refused.value.key == key
