"""What a run looks like: pictures, and one HTML page that holds everything."""

from lomix_search.report.pictures import draw_heat_map as draw_heat_map
from lomix_search.report.pictures import draw_predictions as draw_predictions
from lomix_search.report.pictures import draw_seen as draw_seen
from lomix_search.report.pictures import draw_space as draw_space
from lomix_search.report.pictures import draw_weights as draw_weights
from lomix_search.report.pictures import new_figure as new_figure
from lomix_search.report.pictures import save_figure as save_figure
