"""The report of an audit: one self-contained HTML page that needs no network, from plain data.

`build_report` turns an audit's result into a `Report`, `render_report` that into the page. Nothing here imports grpc, protobuf
or torch.
"""

from assay_server.report.build import build_report, wanted_evidence
from assay_server.report.model import Report
from assay_server.report.page import render_report

__all__ = ["Report", "build_report", "render_report", "wanted_evidence"]
