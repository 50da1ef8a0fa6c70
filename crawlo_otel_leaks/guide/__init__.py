"""The modules that Crawlo's guide imports, under Crawlo's names; `instrumentation/crawlo_guide.py` finds them there."""
