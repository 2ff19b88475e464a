"""Operations that are left out, or done besides, before one that both programs do.

Of an operation with a wrong result all operands are right. One device does the same operation to the same operands but
for one, and gives it there what it makes of the operand that stands here in its place: that is left out. The other way
round, what lies here between a right value and an operation that one device does to that value itself is done besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from conformance.diagnosis.inside.compared import origin, spoken
from conformance.diagnosis.inside.flow import Chain, Flow, chains
from conformance.diagnosis.inside.kinds import ADDS, ARRANGED, COMMUTATIVE, PRODUCTS
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause


def of_left_out(flow: Flow, first: Intermediate) -> Iterator[Cause]:
    """What one device does to one of the operands before it does this to them."""
    operands = flow.operands(first) or []
    for place, given in enumerate(operands):
        for chain in chains(flow.users_there(given), flow.is_lacking, flow.users_there):
            for before in flow.users_there(chain[-1]):
                wanted = [*operands[:place], chain[-1], *operands[place + 1 :]]
                alike = before.operation == first.operation and not _is_sum((*chain, before))
                if alike and not _has_another(flow, before, first) and _is_given(flow, before, first, wanted):
                    later = _comes_later(flow, first, chain) and not _lacks_terms(flow, given, chain)
                    yield _lacking(flow, given, chain, before, later)
                    return


def of_done_besides(flow: Flow, first: Intermediate) -> Iterator[Cause]:
    """What is done to one of the operands, with which one device goes on as it is: no product that it makes too."""
    for given in flow.operands(first) or []:
        multiplied = {user.operation for user in flow.users_there(given)} & {*PRODUCTS}
        for chain in chains([first], flow.is_wrong, flow.users) if first.operation not in multiplied else ():
            for after in flow.users(chain[-1]):
                known = [given if n == chain[-1].number else flow.compared.known(n) for n in after.sources]
                wanted = [operand for operand in known if operand is not None]
                same = (user for user in flow.users_there(given) if user.operation == after.operation)
                if len(wanted) == len(known) and any(_is_given(flow, user, after, wanted) for user in same):
                    yield _besides(given, chain, after)
                    return


def of_lone_term(flow: Flow, first: Intermediate) -> Iterator[Cause]:
    """An operand that one device uses as a term of a sum and for nothing else, whose other term is nowhere here.

    Less sure than all else: the other term may be missing because it went wrong by itself.
    """
    for given in (flow.operands(first) or []) if first.operation not in ADDS else ():
        users = flow.users_there(given)
        for total in users[:1] if len(users) == 1 and users[0].operation in ADDS else ():
            others = [term for term in flow.operands_there(total) if not flow.is_same(term, given)]
            if flow.is_lacking(total) and others and all(map(flow.is_lacking, others)):
                yield _lacking(flow, given, (total,), first, later=False)
                return


def _lacks_terms(flow: Flow, given: Intermediate, chain: Chain) -> bool:
    """Whether what is added to a value there is nowhere here: no other sum can be that one, done later."""
    terms = _others(flow, chain[0], (given,))
    return chain[0].operation in ADDS and bool(terms) and all(map(flow.is_lacking, terms))


def _others(flow: Flow, value: Intermediate, known: Sequence[Intermediate]) -> list[Intermediate]:
    """What it is given besides some values."""
    return [term for term in flow.operands_there(value) if not any(flow.is_same(term, other) for other in known)]


def _is_sum(chain: Chain) -> bool:
    """Whether all that is computed are sums, whose terms may be added in any order."""
    return all(value.operation in (*ADDS, *ARRANGED) for value in chain)


def _is_given(flow: Flow, value: Intermediate, own: Intermediate, wanted: Sequence[Intermediate]) -> bool:
    """Whether an operation of one device is given these, in their order unless that makes no difference.

    Where it is given one value alone, which may happen to any, it has to be a product, of the same line as our own, or
    make something that is nowhere here.
    """
    given = flow.operands_there(value)
    if len(given) != len(value.sources) or len(given) != len(wanted):
        return False
    may = value.operation in PRODUCTS or origin(value) == origin(own) or flow.is_lacking(value)
    if len(given) == 1 and not may:
        return False
    orders = [wanted, list(reversed(wanted))] if value.operation in COMMUTATIVE else [wanted]
    return any(all(map(flow.is_same, given, order)) for order in orders)


def _has_another(flow: Flow, before: Intermediate, first: Intermediate) -> bool:
    """Whether this program does all that one device does on the line of an operation, and `first` on another one."""

    def on_line(values: Iterable[Intermediate]) -> int:
        return sum(origin(each) == origin(before) for each in values)

    compared = flow.compared
    return origin(first) != origin(before) and on_line(compared.wide.values) >= on_line(compared.twin.values)


def _comes_later(flow: Flow, first: Intermediate, chain: Chain) -> bool:
    """Whether something is done in the same way to what is wrong, or to what is made of that: with the same terms."""
    wanted = {value.operation for value in chain if value.operation not in ARRANGED}
    terms = [term for value in chain if value.operation in ADDS for term in _others(flow, value, chain)]
    return any(
        wanted <= {value.operation for value in after[1:]} and (not terms or _adds(flow, after[1:], terms))
        for after in chains([first], flow.is_wrong, flow.users)
    )


def _adds(flow: Flow, chain: Sequence[Intermediate], terms: Sequence[Intermediate]) -> bool:
    """Whether one of these is added somewhere."""
    operands = (flow.compared.known(number) for value in chain if value.operation in ADDS for number in value.sources)
    return any(flow.is_same(operand, term) for operand in operands if operand is not None for term in terms)


def _lacking(flow: Flow, given: Intermediate, chain: Chain, before: Intermediate, later: bool) -> Cause:
    """A term of a sum by its own name, anything else by what it does."""
    if later:
        words = f"in another order: {_listed(chain)}, which one device does before {spoken(before)}, comes behind it"
        basis = f"one device does it to what {spoken(given)} makes; here that goes in as it is"
        return Cause(cause=words, axis=None, confidence=FOUND, basis=basis)
    adds = _is_sum(chain)
    terms = [term for value in chain if value.operation in ADDS for term in _others(flow, value, (given, *chain))]
    listed = ", ".join(dict.fromkeys(map(spoken, terms)))
    missing = f"{'terms of the sum are' if ',' in listed else 'a term of the sum is'} missing: {listed}"
    words = missing if adds and terms else f"left out: {_listed(chain)}"
    how = "adds to" if adds else "does it to"
    basis = f"one device {how} what {spoken(given)} makes before {spoken(before)}, whose other operands are right here"
    return Cause(cause=words, axis=None, confidence=FOUND, basis=basis)


def _besides(given: Intermediate, chain: Chain, after: Intermediate) -> Cause:
    words = f"done besides: {_listed(chain)}"
    basis = f"one device goes on to {spoken(after)} with what {spoken(given)} makes as it is"
    return Cause(cause=words, axis=None, confidence=FOUND, basis=basis)


def _listed(chain: Chain) -> str:
    """What computes something; the longest chain has few."""
    return ", ".join(dict.fromkeys(spoken(value) for value in chain if value.operation not in ARRANGED))
