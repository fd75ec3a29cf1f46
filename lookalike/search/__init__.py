"""Search over a sealed index: filters, weighted mixes, cursors, answers. Knows the ports only, no engine."""
