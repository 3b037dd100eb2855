"""How often one may try to sign in, by a clock that the test sets."""

from __future__ import annotations

from service.web.attempts import PER_ADDRESS, PER_NAME, WINDOW_SECONDS, Attempts


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_name_may_be_tried_so_often_from_wherever() -> None:
    attempts = Attempts(Clock())
    tried = [attempts.take("anna", f"10.0.0.{number}") for number in range(PER_NAME + 3)]
    assert tried == [True] * PER_NAME + [False] * 3
    assert not attempts.take(" ANNA ", "10.0.1.1")
    assert attempts.take("bert", "10.0.1.1")


def test_an_address_may_try_so_many_names() -> None:
    attempts = Attempts(Clock())
    tried = [attempts.take(f"user{number}", "10.0.0.1") for number in range(PER_ADDRESS + 1)]
    assert tried == [True] * PER_ADDRESS + [False]
    assert attempts.take("user0", "10.0.0.2")


def test_time_and_the_right_password_forgive() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(PER_NAME):
        attempts.take("anna", "10.0.0.1")
    clock.now = WINDOW_SECONDS - 1
    assert not attempts.take("anna", "10.0.0.1")
    clock.now = WINDOW_SECONDS
    assert attempts.take("anna", "10.0.0.1")
    attempts.forgive("Anna", "10.0.0.1")
    assert all(attempts.take("anna", "10.0.0.1") for _ in range(PER_NAME))
    for _ in range(3 * PER_ADDRESS):  # a whole department behind one address, and nobody mistypes
        assert attempts.take("bert", "10.0.0.9")
        attempts.forgive("bert", "10.0.0.9")


def test_refused_attempts_do_not_make_it_longer() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for second in range(2 * PER_NAME):
        clock.now = second
        attempts.take("anna", "10.0.0.1")
    clock.now = WINDOW_SECONDS
    assert attempts.take("anna", "10.0.0.1")


def test_unknown_tokens_of_an_address_are_counted_until_it_is_enough() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for second in range(PER_ADDRESS):
        clock.now = second
        assert not attempts.are_too_many("10.0.0.1")
        attempts.note_failure("10.0.0.1")
    assert attempts.are_too_many("10.0.0.1")
    assert not attempts.are_too_many("10.0.0.2")
    clock.now = WINDOW_SECONDS
    assert not attempts.are_too_many("10.0.0.1")
