"""The report: results as one HTML page, as figures for papers, and as pictures in a notebook.

A chart is a Vega-Lite specification, written once here. The page draws it with the library's
JavaScript, `figures` draws it without a browser.
"""
