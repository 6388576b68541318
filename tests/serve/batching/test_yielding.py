from serve.batching.yielding import LONG_S, MAX_REST, MIN_REST, RECOVERY, Yielding


class Core:
    """Others take it for as long as they are told to."""

    def __init__(self) -> None:
        self.now, self.taken_s, self.given = 0.0, 0.0, 0

    def give(self) -> None:
        self.given += 1
        self.now += self.taken_s

    def clock(self) -> float:
        return self.now


def turns_until_it_pays(yielding: Yielding) -> int:
    turns = 0
    while not yielding.pays(2):
        turns += 1
    return turns


def test_after_a_turn_of_one_request_the_core_is_kept():
    yielding = Yielding()
    assert not yielding.pays(0)
    assert not yielding.pays(1)
    assert yielding.pays(2)


def test_a_core_that_comes_back_soon_is_given_away_in_every_turn():
    core = Core()
    yielding = Yielding(core.give, core.clock)
    for _ in range(100):
        assert yielding.pays(2)
        yielding.give_way()
    assert core.given == 100


def test_a_core_that_was_gone_for_long_is_kept_for_longer_and_longer():
    core = Core()
    yielding = Yielding(core.give, core.clock)
    core.taken_s = 3 * LONG_S
    rests = []
    for _ in range(10):
        yielding.give_way()
        rests.append(turns_until_it_pays(yielding))
    assert rests[:3] == [MIN_REST, 2 * MIN_REST, 4 * MIN_REST]
    assert rests[-2:] == [MAX_REST, MAX_REST]


def test_when_the_others_leave_it_is_tried_as_often_as_before():
    core = Core()
    yielding = Yielding(core.give, core.clock)
    core.taken_s = 3 * LONG_S
    for _ in range(10):
        yielding.give_way()
        turns_until_it_pays(yielding)
    core.taken_s = 0.0
    for _ in range(MAX_REST // RECOVERY):
        yielding.give_way()
    core.taken_s = 3 * LONG_S
    yielding.give_way()
    assert turns_until_it_pays(yielding) == MIN_REST
