"""The report: one self-contained HTML page per run, written from the run directory's plain files and nothing else.

`page.write_report` is the door. `reading` tolerates whatever an interrupted run left behind, `attempts` chooses which attempts
fit on a page, `wording` turns numbers and model-written text into words that are safe to show, `figures`, `boards` and `heatmap`
draw SVG by hand. `passages`, `puzzles` and `forgetting` are the sections of runs that have such.
The page opens offline, loads nothing, and runs no script but its own (its content security policy names that script's hash).
"""
