"""What the control plane's responses contain, as frozen values."""

from fake_credits.control_schemas import ClockState as ClockState
from fake_credits.control_schemas import CloseReport as CloseReport
from fake_credits.control_schemas import GateState as GateState
from fake_credits.control_schemas import HeldCall as HeldCall
from fake_credits.control_schemas import PendingAction as PendingAction
from fake_credits.control_schemas import PresetInfo as PresetInfo
from fake_credits.control_schemas import RecordedExchange as RecordedExchange
from fake_credits.control_schemas import RuleState as RuleState
from fake_credits.control_schemas import SandboxState as SandboxState
from fake_credits.control_schemas import UserState as UserState
