"""An adapter's side of the order link: the channel to the gateway, placed orders, limits, queued events."""
