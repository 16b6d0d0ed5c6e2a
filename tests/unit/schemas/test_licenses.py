"""The steps of a licence are those of the contract, and no other."""

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.strategies import sampled_from

from schemas.licenses import OFFERED_ANEW, PENDING, IllegalStepError, LicenseState, Step, after

CONTRACT = """
    available ASSIGN pending_add, pending_add USE inuse, inuse CHANGE pending_update, pending_update USE inuse,
    inuse REVOKE pending_remove, pending_remove REMOVE removed, inuse EXPIRE expired, expired REVOKE pending_remove,
    pending_add FAIL error_add, pending_update FAIL error_update, pending_remove FAIL error_remove,
    error_add RETRY pending_add, error_update RETRY pending_update, error_remove RETRY pending_remove
"""
LEGAL = {
    (LicenseState(was), Step[step]): LicenseState(state)
    for was, step, state in (one.split() for one in CONTRACT.split(","))
}


def test_every_step_leads_where_the_contract_says_and_every_other_is_refused() -> None:
    """All states by all steps: a legal one, the same state twice, or "State can't switch to X from Y"."""
    for state in LicenseState:
        for step in Step:
            twice = step.word == state.word or (step.word == "pending" and state in PENDING)
            if (state, step) in LEGAL:
                assert after(state, step) is LEGAL[state, step]
            elif twice:
                assert after(state, step) is state, (state, step)
            else:
                with pytest.raises(IllegalStepError) as refused:
                    after(state, step)
                assert str(refused.value) == f"State can't switch to {step.word} from {state.word}"


def test_people_are_told_eight_words() -> None:
    """Which step ended in an error stands beside it, as what is pending does."""
    assert {state.word for state in LicenseState} == {
        "available",
        "pending_add",
        "inuse",
        "pending_update",
        "pending_remove",
        "removed",
        "expired",
        "error",
    }
    assert [state.action for state in PENDING] == ["add", "update", "remove"]
    assert LicenseState.ERROR_UPDATE.action == "update"
    assert LicenseState.INUSE.action is None
    assert [state for state in LicenseState if state.is_pending] == list(PENDING)


def test_another_unit_is_offered_all_that_the_one_before_had() -> None:
    """What it could not have applied by itself is pending, or was removed before it came."""
    for state in LicenseState:
        now = OFFERED_ANEW.get(state, state)
        assert now in (*PENDING, LicenseState.AVAILABLE, LicenseState.REMOVED, LicenseState.EXPIRED)


class OneLicense(RuleBasedStateMachine):
    """Any steps in any order, by vendor, device and clock."""

    def __init__(self) -> None:
        super().__init__()
        self.state = LicenseState.AVAILABLE
        self.added = False
        """Whether the device has it, as far as it told."""

    @rule(step=sampled_from(Step))
    def take(self, step: Step) -> None:
        """A refused one changes nothing."""
        was = self.state
        try:
            self.state = after(was, step)
        except IllegalStepError:
            return
        if was is LicenseState.PENDING_ADD and self.state is LicenseState.INUSE:
            self.added = True
        if self.state is LicenseState.REMOVED:
            self.added = False
        if self.state is not was:
            assert LEGAL[was, step] is self.state

    @invariant()
    def the_state_says_whether_the_device_has_it(self) -> None:
        """Nothing is in use that was not added, nothing removed that is still there."""
        without = self.state in (
            LicenseState.AVAILABLE,
            LicenseState.PENDING_ADD,
            LicenseState.ERROR_ADD,
            LicenseState.REMOVED,
        )
        assert self.added is not without


TestOneLicense = OneLicense.TestCase
TestOneLicense.settings = settings(max_examples=50, stateful_step_count=30, deadline=None, derandomize=True)
