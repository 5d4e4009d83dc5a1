"""What callers of the systems beside Encharge must know."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

ACTIVATEPRO_TOKEN = "sandbox-activatepro-token"
SEGMENT_KEY = "sandbox-segment-key"
#: As Standard Webhooks writes secrets: a prefix, and base64 of at least 24 bytes.
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"sandbox-webhook-secret-1").decode()


@dataclass(frozen=True, slots=True)
class Tokens:
    """One for each system; "" = the system is not there."""

    activatepro: str = ACTIVATEPRO_TOKEN
    segment: str = SEGMENT_KEY
    webhook: str = WEBHOOK_SECRET
    #: Names of events that ActivatePro knows; none = all.
    event_classes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Out of the environment: those of the router, and what only the sandbox is told (SANDBOX_…)."""
        classes = environ.get("SANDBOX_ACTIVATEPRO_EVENTS", "").split(",")
        return cls(
            environ.get("ACTIVATEPRO_TOKEN") or ACTIVATEPRO_TOKEN,
            environ.get("SEGMENT_WRITE_KEY") or SEGMENT_KEY,
            environ.get("SANDBOX_WEBHOOK_SECRET") or WEBHOOK_SECRET,
            frozenset(name.strip() for name in classes if name.strip()),
        )

    def own(self) -> Self:
        """Without the systems whose token everybody knows."""
        return replace(
            self,
            activatepro="" if self.activatepro == ACTIVATEPRO_TOKEN else self.activatepro,
            segment="" if self.segment == SEGMENT_KEY else self.segment,
            webhook="" if self.webhook == WEBHOOK_SECRET else self.webhook,
        )
