"""The event log of the stream: a port and its two adapters, chosen by the setting `log.kind`."""
