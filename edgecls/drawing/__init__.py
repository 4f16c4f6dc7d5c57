"""Charts without a plotting package: shapes, drawn once, rendered as SVG for pages and as PNG by Pillow."""
