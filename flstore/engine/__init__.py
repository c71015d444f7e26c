"""The Cache Engine: decides, and does no input or output (section 4.2 of the paper)."""

from flstore.engine.core import settle, step
from flstore.engine.log import EventLog, fold
from flstore.engine.routing import reroute
from flstore.engine.state import State
from flstore.engine.tracker import RequestRecord, Tracker
from flstore.engine.view import View

__all__ = ["EventLog", "RequestRecord", "State", "Tracker", "View", "fold", "reroute", "settle", "step"]
