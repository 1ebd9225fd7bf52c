"""All figures and tables of two published works (arXiv 2508.08343 and 2503.08311), as ours.

    make_figures("DATA", "figures")    # PNG, SVG and CSV of each, and one page

`catalogue.py` lists them: what each shows, what of it is measured and what simulated, and of which data.
"""

from loratwin.report.figures.catalogue import CATALOGUE, Entry
from loratwin.report.figures.make import FigureState, make_figures

__all__ = ["CATALOGUE", "Entry", "FigureState", "make_figures"]
