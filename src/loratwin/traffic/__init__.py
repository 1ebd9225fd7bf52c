"""From logs and metrics of servers in use to a workload file: who asked how often, how long, how burstily.

What a source does not tell (ranks, which name is the base LLM, adapters behind one label) is said in the file's
comments.
"""

from loratwin.traffic.importing import Sources, import_traffic
from loratwin.traffic.observed import Observed, hours_named
from loratwin.traffic.prometheus import past
from loratwin.traffic.workload_text import workload_text

__all__ = ["Observed", "Sources", "hours_named", "import_traffic", "past", "workload_text"]
