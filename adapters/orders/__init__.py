"""An adapter's side of the order link: the channel to the gateway, its guard, placed orders, queued events."""
