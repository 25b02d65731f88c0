"""The mailbox's slots by themselves: an asynchronous object, no Ray."""

import asyncio

import pytest

from selftune.methods import WorkOrder
from selftune.schedulers.mailbox import Request, Slots

ORDER = WorkOrder()


def run(scene):
    asyncio.run(asyncio.wait_for(scene(Slots()), 10))


async def soon(slots, trial, incarnation="a", seen=-1):
    """What a trainer gets that waits for at most a moment."""
    return await slots.take(trial, incarnation, seen, 0.01)


def test_an_order_waits_for_the_state_it_starts_from():
    async def scene(slots):
        await slots.request("leader", "key")
        await slots.put("other", "a", ORDER, ("leader", "key"))
        assert await soon(slots, "other") is None
        assert await soon(slots, "leader") == Request("key")
        await slots.answer("leader", "key", "the state")
        assert (await soon(slots, "other")).warm == "the state"

    run(scene)


def test_a_request_comes_before_an_order_of_its_own():
    async def scene(slots):
        await slots.request("leader", "key")
        await slots.put("leader", "a", ORDER)
        assert await soon(slots, "leader") == Request("key")
        await slots.answer("leader", "key", None)
        delivery = await soon(slots, "leader")
        assert delivery.order == ORDER
        assert await soon(slots, "leader", seen=delivery.number) is None

    run(scene)


def test_a_request_stays_until_it_is_answered():
    async def scene(slots):
        await slots.request("leader", "key")
        for incarnation in ("a", "b"):  # the first one dies with it
            assert await soon(slots, "leader", incarnation) == Request("key")

    run(scene)


@pytest.mark.parametrize("first", ["gone", "put"])
def test_an_order_goes_out_cold_if_its_state_is_gone(first):
    async def scene(slots):
        await slots.request("leader", "key")
        steps = {"gone": slots.forget("leader"), "put": slots.put("other", "a", ORDER, ("leader", "key"))}
        await steps.pop(first)
        await steps.popitem()[1]
        delivery = await soon(slots, "other")
        assert (delivery.order, delivery.warm) == (ORDER, None)
        assert await soon(slots, "leader") is None

    run(scene)


def test_a_state_outlives_its_trainer_until_nobody_needs_it():
    async def scene(slots):
        await slots.request("leader", "key")
        await slots.answer("leader", "key", "the state")
        await slots.forget("leader")
        await slots.put("other", "a", ORDER, ("leader", "key"))
        assert (await soon(slots, "other")).warm == "the state"
        await slots.forget("leader", "key")
        await slots.put("third", "a", ORDER, ("leader", "key"))
        assert (await soon(slots, "third")).warm is None

    run(scene)


def test_an_order_for_a_dead_incarnation_is_not_given_to_the_next():
    async def scene(slots):
        await slots.put("trial", "a", ORDER)
        assert await soon(slots, "trial", "b") is None

    run(scene)
