"""The control plane of the plugin's live server governs a test's own sandbox, from whatever process."""

from fake_credits import FakeCredits
from fake_credits.client.control import ControlClient
from fake_credits.transports.live import LiveServer


def test_another_process_sees_and_bends_the_running_tests_sandbox(
    fake_credits: FakeCredits, fake_credits_server: LiveServer
) -> None:
    fake_credits.user("ada", balance=5)
    with ControlClient(fake_credits.base_url, fake_credits_server.control_token) as control:
        sandbox = control.sandbox(fake_credits.sandbox.name)
        assert (sandbox.api_key, sandbox.balance("ada")) == (fake_credits.api_key, 5)
        sandbox.add_fault("status", status=503, name="mine")
    assert fake_credits.faults.find("mine").fired == 0


def test_a_sandbox_that_is_made_there_takes_nothing_from_the_running_tests(
    fake_credits: FakeCredits, fake_credits_server: LiveServer
) -> None:
    with ControlClient(fake_credits.base_url, fake_credits_server.control_token) as control:
        with control.make_sandbox(users={"ada": 1}) as other:
            assert fake_credits_server.sandboxes.default is fake_credits.sandbox
            assert other.balance("ada") == 1
        assert fake_credits.problems() == []
