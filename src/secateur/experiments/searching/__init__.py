"""Which ratio each layer should have, so that the network costs least and loses no more than it may.

plan.py       Search: what is asked, checked; its cells
knapsack.py   costs and harms of every layer at every ratio → the best combinations, a front
laboratory.py facts about cells (harm, costs, accuracy), each measured once and kept in the run's store
tables.py     options of layers → what they cost together, and the cell that they make
channels.py   likewise of groups of channels
finding.py    fronts → bisection on the real accuracy → harms measured again around the best → the cell
comparing.py  dense, uniform, global and searched networks measured side by side
running.py    the whole of it, into a run folder; going on where it stopped
"""

from secateur.experiments.searching.plan import Search, plan_search
from secateur.experiments.searching.running import SearchResult, run_search, search

__all__ = ["Search", "SearchResult", "plan_search", "run_search", "search"]
