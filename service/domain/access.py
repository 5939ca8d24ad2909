"""Who is calling and what they may use. Frozen values only.

Where on the path: `guard.keys.authenticate` builds a `Caller`, `pipeline` and `routing` ask it, `ledger` writes its
`key_id` down.

Invariants
1. A `Caller` never holds a secret or a digest of one: it may be logged.
2. An empty set of models or policies means that the key was made without that limit. A limit is matched exactly: a name
   that is not in the set is refused, whatever it looks like.
3. `limits` are those of the key as it was when the request came: a change counts from the next request on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from service.domain.limits import NO_LIMITS, Budget, Limits, applying


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a request. `key_id` is `None` only for anonymous callers of a loopback router without keys.

    `tags` are the key's own labels (routes and cost reports group by them). `models` are registry model names and
    `policies` policy names; empty is all of them. `limits` is what it may spend and ask for.
    """

    key_id: str | None
    name: str
    tags: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    limits: Limits = NO_LIMITS

    @property
    def anonymous(self) -> bool:
        """Whether no key stands behind this caller."""
        return self.key_id is None

    def may_use(self, model: str) -> bool:
        """Whether this caller may be served by a registry model (its plain name, without provider)."""
        return not self.models or model in self.models

    def may_follow(self, policy: str) -> bool:
        """Whether this caller may choose a policy of the registry by name."""
        return not self.policies or policy in self.policies

    def budgeted(self, budgets: tuple[Budget, ...], said: Iterable[str] = ()) -> bool:
        """Whether some budget would refuse a request of this caller: its key's own, or one of the registry's.

        `said` are the tags that the request says itself. What has no known price can't be held under such a budget.
        """
        if self.limits.hard_money:
            return True
        return bool(budgets) and any(one.limits.hard_money for one in applying(budgets, self.tags, said))


ANONYMOUS = Caller(key_id=None, name="anonymous")
"""Anybody on this machine, while the router listens on loopback and no key was ever created."""
