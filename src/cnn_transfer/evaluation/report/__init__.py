"""The report of a run as one page for people, and the card of the model that it delivers.

`blocks.py` makes a page from blocks and knows nothing of what they say; each other module is one section of the report.
"""

from cnn_transfer.evaluation.report.model_card import limits_of_use, write_model_card
from cnn_transfer.evaluation.report.run_results import RunResults
from cnn_transfer.evaluation.report.transfer_report import write_report

__all__ = ["RunResults", "limits_of_use", "write_model_card", "write_report"]
