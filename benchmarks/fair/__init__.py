"""What `quality.py` is made of: methods, what they cost, results, tables, pictures, the page."""
