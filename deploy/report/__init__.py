"""What a person reads: tables, plots and pages.

`answer` holds what a person wants to know first; `tables`, `layer_tables`, `load_table` and `plan_text` derive a
`table.Table`; `terminal`, `markdown` and `page` show both, `layers_shown` in Python. `drawing` and `plan_picture`
draw; `pages` has the templates; `formatting` writes numbers.
"""

__all__: list[str] = []
