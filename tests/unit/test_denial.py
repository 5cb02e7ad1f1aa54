"""
What is noted of refusals.
"""

from jail.denial import Denial, Denials


def denial(name):
    return Denial("network", name, 443, "no rule allows this name", "", f'network = ["{name}"]')


def test_each_once_the_latest():
    """
    The same refusal is noted once; since a moment there are those that came after it.
    """
    denials = Denials()
    denials.add(denial("a"))
    mark = denials.mark()
    for name in "bcb":
        denials.add(denial(name))

    assert ["a", "c", "b"] == [found.subject for found in denials.since()]
    assert ["c", "b"] == [found.subject for found in denials.since(mark)]
    denials.add(denial("a"))
    assert ["c", "b", "a"] == [found.subject for found in denials.since(mark)]


def test_bounded():
    """
    A program that asks for ever is remembered for its last questions.
    """
    denials = Denials()
    for number in range(5000):
        denials.add(denial(str(number)))

    assert 1024 == len(denials.since())
    assert "4999" == denials.since()[-1].subject


def test_words():
    """
    A denial says what was refused, why, and what would allow it.
    """
    text = 'network: a, port 443: no rule allows this name. To allow it: network = ["a"]'

    assert text == str(denial("a"))
